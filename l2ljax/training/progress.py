"""How far a run is: a bar on a terminal and in a notebook, plain lines in a log."""

import contextlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

SHOWN = {
    "meta_loss": "meta-loss",
    "validation_loss": "validation",
    "skipped": "skipped",
    "diverged": "diverged",
    "restores": "restores",
}
EVERY = 30.0
"""Seconds between lines where there is no bar."""

Show = Callable[[int, list[dict[str, Any]]], None]
"""`(update, history) -> None`."""


@contextlib.contextmanager
def progress_bar(show: bool, total: int, completed: int, console: Any = None) -> Iterator[Show]:
    """What shows how far the run is, when it is called after a meta-update.

    Args:
        show: nothing is shown otherwise.
        total: meta-updates of the run.
        completed: those made before.
        console: a `rich.console.Console`; `None`: rich's own. A terminal has a bar, and so has a
            notebook with ipywidgets. Elsewhere (a log, a pipe, a notebook without them) a line
            goes to stderr every `EVERY` seconds.
    """
    if not show:
        yield lambda update, history: None
        return
    from rich import get_console

    console = console or get_console()
    rate = _rate()
    if not has_bar(console):
        yield _lines(total, rate)
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
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=total, completed=completed, note="compiling")

        def update_bar(update: int, history: list[dict[str, Any]]) -> None:
            text = f"{per_second(rate(update))}  {note(history)}"
            bar.update(task, completed=update, note=text.strip())

        yield update_bar


def has_bar(console: Any) -> bool:
    """Whether a bar can be drawn: on a terminal, and in a notebook with ipywidgets."""
    return console.is_terminal or (console.is_jupyter and _has_widgets())


def _has_widgets() -> bool:
    return importlib.util.find_spec("ipywidgets") is not None


def _rate() -> Callable[[int], float | None]:
    """Meta-updates a second since the first one here, which was compiled; `None` before."""
    first: list[tuple[int, float]] = []

    def rate(update: int) -> float | None:
        now = time.monotonic()
        if not first:
            first.append((update, now))
        made, seconds = update - first[0][0], now - first[0][1]
        return made / seconds if made > 0 and seconds > 0 else None

    return rate


def _lines(total: int, rate: Callable[[int], float | None]) -> Show:
    last = [time.monotonic()]

    def line(update: int, history: list[dict[str, Any]]) -> None:
        speed = rate(update)
        if time.monotonic() - last[0] < EVERY:
            return
        last[0] = time.monotonic()
        left = "" if not speed else f"  {(total - update) / speed:.0f} s left"
        text = f"meta-training {update}/{total}  {per_second(speed)}{left}  {note(history)}"
        print(text, file=sys.stderr, flush=True)

    return line


def per_second(rate: float | None) -> str:
    """A rate as it is shown.

    Example:
        >>> per_second(12.345), per_second(0.25), per_second(None)
        ('12.3 a second', '4 s each', '')
    """
    if not rate:
        return ""
    return f"{rate:.3g} a second" if rate >= 1 else f"{1 / rate:.3g} s each"


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
