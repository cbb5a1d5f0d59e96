"""The pieces of work that a comparison is made of, so that they can be told of and kept."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from l2ljax.base import Task


class Stage(NamedTuple):
    """A piece of a comparison, and what decides its result.

    Attributes:
        work: "tuning" a baseline's learning rate, or "evaluating" an optimizer.
        name: of the baseline or optimizer.
        number: of this one, from 1.
        total: of all.
        task: where the optimizees come from.
        optimizer: a transformation, a pair of a learned optimizer and its meta-parameters, or (of
            a baseline) a function of the learning rate.
        settings: of the work, JSON values by name; `learning_rate` is a baseline's rate, the list
            of candidates that its tuning starts from, or `None`.

    Example:
        >>> import optax
        >>> from l2ljax.tasks import quadratic
        >>> stage = Stage("tuning", "adam", 2, 9, quadratic(), optax.adam, {"num_tasks": 8})
        >>> f"{stage.number}/{stage.total} {stage.work} {stage.name}"
        '2/9 tuning adam'
    """

    work: str
    name: str
    number: int
    total: int
    task: Task
    optimizer: Any
    settings: dict[str, Any]


Around = Callable[[Stage, Callable[[], Any]], Any]
"""Called with a stage and the function that computes its result; returns that result."""


def just_compute(stage: Stage, compute: Callable[[], Any]) -> Any:
    """An `Around` that adds nothing."""
    del stage
    return compute()


def wait_for(array: Any) -> None:
    """Waits for a `jax.Array` in a way that Ctrl-C ends."""
    pause = 1e-4
    while not array.is_ready():
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
