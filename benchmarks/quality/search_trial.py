"""One trial of `search_rule.py`: a training task, how long its runs are, what is asked there."""

from collections.abc import Callable
from typing import NamedTuple

from l2ljax.base import Task
from l2ljax.tasks import transforms


class Trial(NamedTuple):
    """A training task of the suite, as the search runs it.

    Attributes:
        task: its name in the suite.
        num_steps: of each run.
        num_tasks: optimizees.
        seconds: of one core for a candidate, by which work is shared out.
        noise: of `NOISES`, for Adam too.
        units: where all parameters are multiplied, from what to what.
        asked: times what Adam reaches in its own units.
        weight: of the log ratio to that; many times where a start is hardly above what Adam ends
            at, so that a run that ends above its start counts.
    """

    task: str
    num_steps: int
    num_tasks: int
    seconds: float
    noise: str | None = None
    units: tuple[float, float] | None = None
    asked: float = 1.0
    weight: float = 1.0


NOISES: dict[str, Callable[[Task], Task]] = {
    "es": lambda task: transforms.es_gradients(task, 1),
    "labels": lambda task: transforms.noisy_labels(task, 0.3, 10),
}
