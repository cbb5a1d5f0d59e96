"""The progress bar of a run."""

import contextlib
from collections.abc import Iterator
from typing import Any

SHOWN = {
    "meta_loss": "meta-loss",
    "validation_loss": "validation",
    "skipped": "skipped",
    "diverged": "diverged",
    "restores": "restores",
}


@contextlib.contextmanager
def progress_bar(show: bool, total: int, completed: int) -> Iterator[Any]:
    """A function `(update, history) -> None` that shows how far the run is."""
    if not show:
        yield lambda update, history: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("meta-training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("", total=total, completed=completed, note="compiling")
        yield lambda update, history: bar.update(task, completed=update, note=note(history))


def note(history: list[dict[str, Any]]) -> str:
    """The newest numbers of a history, faults only where there are some.

    Example:
        >>> note([{"meta_loss": 1.5, "skipped": 0, "diverged": 2}, {"validation_loss": 0.25}])
        'meta-loss 1.5  validation 0.25  diverged 2'
    """
    newest = {name: value for record in history[-20:] for name, value in record.items()}
    return "  ".join(
        f"{label} {newest[name]:.4g}"
        for name, label in SHOWN.items()
        if newest.get(name) is not None and (newest[name] or name.endswith("loss"))
    )
