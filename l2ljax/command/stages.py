"""How far an evaluation is: a bar on a terminal and in a notebook, plain lines in a log."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from l2ljax.evaluation import Stage
from l2ljax.training.progress import has_bar

BEGINS, DONE, KEPT = "begins", "done", "kept"
"""What happens to a stage; the last: it was finished before."""

PAST = {"tuning": "tuned", "evaluating": "evaluated"}


class StageBar:
    """Tells of stages; called with a stage and what happens to it.

    Attributes:
        finished: stages that are done, or were before.
        total: of all, once one has begun.
    """

    def __init__(self) -> None:
        self.finished, self.total = 0, 0
        self._began = 0.0

    def __call__(self, stage: Stage, event: str) -> None:
        self.total = stage.total
        if event == BEGINS:
            self._began = time.monotonic()
        else:
            self.finished += 1
        self.show(stage, event, time.monotonic() - self._began)

    def show(self, stage: Stage, event: str, seconds: float) -> None:
        """Nothing is shown, unless a class says otherwise."""


class _Lines(StageBar):
    def show(self, stage: Stage, event: str, seconds: float) -> None:
        count = f"{stage.number}/{stage.total}"
        print(f"{count} {sentence(stage, event, seconds)}", file=sys.stderr, flush=True)


def sentence(stage: Stage, event: str, seconds: float) -> str:
    """What a line says.

    Example:
        >>> import optax
        >>> from l2ljax.tasks import quadratic
        >>> settings = {"num_tasks": 8, "num_steps": 100, "learning_rate": [0.1, 1.0]}
        >>> stage = Stage("tuning", "adam", 2, 9, quadratic(), optax.adam, settings)
        >>> sentence(stage, BEGINS, 0.0)
        'tuning adam: 2 rates, 8 optimizees, 100 steps'
        >>> sentence(stage, DONE, 12.34), sentence(stage, KEPT, 0.0)
        ('tuned adam in 12.3 s', 'tuned adam before; kept')
    """
    if event == BEGINS:
        rates = stage.settings["learning_rate"]
        tried = f"{len(rates)} rates, " if isinstance(rates, list) else ""
        sizes = f"{stage.settings['num_tasks']} optimizees, {stage.settings['num_steps']} steps"
        return f"{stage.work} {stage.name}: {tried}{sizes}"
    done = f"{PAST[stage.work]} {stage.name}"
    return f"{done} before; kept" if event == KEPT else f"{done} in {seconds:.1f} s"


@contextlib.contextmanager
def stage_bar(show: bool, console: Any = None) -> Iterator[StageBar]:
    """What tells of stages on a terminal, in a notebook or, line by line on stderr, in a log.

    Args:
        show: nothing is shown otherwise.
        console: a `rich.console.Console`; `None`: rich's own.
    """
    from rich import get_console

    console = console or get_console()
    if not show or not has_bar(console):
        yield _Lines() if show else StageBar()
        return
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as bar:
        line = bar.add_task("", total=None)

        class Drawn(StageBar):
            def show(self, stage: Stage, event: str, seconds: float) -> None:
                said = escape(sentence(stage, event, seconds))
                if event != BEGINS:
                    bar.console.print(f"{stage.number}/{stage.total} {said}", highlight=False)
                bar.update(line, total=stage.total, completed=self.finished, description=said)

        yield Drawn()
