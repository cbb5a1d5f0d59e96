"""Learning rates tuned by one compiled sweep, on other optimizees than those reported."""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from l2ljax.base import Key, Task
from l2ljax.checks import check_number, check_task, short
from l2ljax.evaluation._programs import program
from l2ljax.evaluation._rollouts import (
    Sizes,
    check_counts,
    check_run,
    rollouts_of,
    run,
    task_parts,
    whole_task,
)
from l2ljax.evaluation.stages import wait_for

MakeTransform = Callable[[Any], optax.GradientTransformation]

BASELINES: dict[str, MakeTransform] = {
    "sgd": optax.sgd,
    "rmsprop": optax.rmsprop,
    "adam": optax.adam,
    "nag": functools.partial(optax.sgd, momentum=0.9, nesterov=True),
}
"""Name -> function of the learning rate, the paper's four hand-designed optimizers."""

LEARNING_RATES = tuple(float(f"{10 ** (i / 3):.3g}") for i in range(-12, 7))
"""1e-4 ... 1e2, three a decade."""

PURPOSE = 0x74756E65  # "tune"
"""Folded into the key: with equal keys, `evaluate` draws other optimizees."""

MOST_DECADES = 3
"""That a grid is widened by."""


class Tuning(NamedTuple):
    """What a search of learning rates found.

    Attributes:
        learning_rate: the best.
        edge: "lowest" or "highest" where the best is at an edge of the grid, so that a better one
            may lie beyond it; else `None`.
        grid: the rates tried, ascending.
        final_losses: of each rate the mean final loss; `None` where an optimizee's is not finite.
        nonfinite: of each rate the optimizees whose final loss is not finite.
        num_tasks: optimizees of each rate.
        num_steps: inner steps of each.

    Example:
        >>> found = Tuning(0.1, "highest", (0.01, 0.1), (2.0, 1.0), (0, 0), 8, 100)
        >>> found.final_losses[found.grid.index(found.learning_rate)]
        1.0
    """

    learning_rate: float
    edge: str | None
    grid: tuple[float, ...]
    final_losses: tuple[float | None, ...]
    nonfinite: tuple[int, ...]
    num_tasks: int
    num_steps: int


def tune(
    task: Task,
    make_tx: MakeTransform,
    learning_rates: Sequence[float],
    key: Key,
    *,
    num_tasks: int,
    num_steps: int,
    at_once: int = 64,
) -> tuple[float, jax.Array]:
    """The learning rate with the least mean final loss, found by one compiled sweep.

    A rate at which any optimizee ends non-finite counts as infinitely bad; where that is so of
    every rate, the one with the fewest such optimizees is taken, then the one with the least mean
    of the others.

    Args:
        task: where the optimizees come from.
        make_tx: learning rate -> transformation, e.g. `optax.adam`. It is called with a traced
            float32 scalar; if that fails, as for `optax.warmup_cosine_decay_schedule`, with each
            rate as a Python float, and a program is compiled for each.
        learning_rates: candidates.
        key: draws the optimizees, the same for all rates, others than `evaluate` with an equal key.
        num_tasks: optimizees for each rate.
        num_steps: inner steps of each.
        at_once: optimizees run side by side.

    Returns:
        the best rate, and all losses, float `[len(learning_rates), num_tasks, num_steps + 1]`.

    Warns:
        UserWarning: where the best rate is the least or the greatest of several, or every rate has
            an optimizee that ends non-finite.

    Raises:
        ValueError: if there is no candidate, one is no positive number, or no optimizee ends finite
            at any; for counts that are no positive integers.
        TypeError: for a `task`, `make_tx` or `key` that is none.

    Example:
        >>> from l2ljax.tasks import quadratic
        >>> rates = (1e-3, 1e-2, 10.0)
        >>> rate, losses = tune(
        ...     quadratic(), optax.sgd, rates, jax.random.key(0), num_tasks=8, num_steps=9
        ... )
        >>> rate
        0.01
    """
    sizes = Sizes(num_tasks, num_steps, at_once)
    learning_rates = _checked(task, make_tx, learning_rates, key, sizes)
    losses = _sweep(task, make_tx, learning_rates, jax.random.fold_in(key, PURPOSE), sizes)
    finals = np.asarray(losses[:, :, -1], np.float64)
    if not np.isfinite(finals).any():
        raise ValueError(
            f"Every learning rate from {min(learning_rates)} to {max(learning_rates)} diverged; "
            "give smaller ones."
        )
    found = _judge(learning_rates, finals, sizes)
    if len(learning_rates) > 1:
        _warn(found)
    return found.learning_rate, losses


def tune_inside(
    task: Task,
    make_tx: MakeTransform,
    key: Key,
    *,
    num_tasks: int,
    num_steps: int,
    learning_rates: Sequence[float] = LEARNING_RATES,
    at_once: int = 64,
) -> tuple[float, tuple[float, ...]]:
    """`tune`, with the grid widened by a decade until the best rate is not at its edge.

    Args:
        task, make_tx, key, num_tasks, num_steps, at_once: as there.
        learning_rates: candidates to begin with.

    Returns:
        the best rate and the grid that it was found in, ascending.

    Warns:
        UserWarning: if the best is still at an edge after three more decades, or every rate has an
            optimizee that ends non-finite.

    Raises:
        ValueError, TypeError: as there, but where all diverge it goes on to other rates.

    Example:
        >>> from l2ljax.tasks import quadratic
        >>> rate, grid = tune_inside(
        ...     quadratic(), optax.sgd, jax.random.key(0), num_tasks=8, num_steps=9,
        ...     learning_rates=(1e-4, 1e-3)
        ... )
        >>> grid[0] < rate < grid[-1]
        True
    """
    sizes = Sizes(num_tasks, num_steps, at_once)
    key = jax.random.fold_in(key, PURPOSE)
    found = search(task, make_tx, key, sizes, learning_rates)
    _warn(found)
    return found.learning_rate, found.grid


def search(
    task: Task,
    make_tx: MakeTransform,
    key: Key,
    sizes: Sizes,
    learning_rates: Sequence[float] = LEARNING_RATES,
) -> Tuning:
    """`tune_inside` for a key of its own; tells of an edge in what it returns."""
    rates = sorted(set(_checked(task, make_tx, learning_rates, key, sizes)))
    finals: dict[float, np.ndarray] = {}
    decades = 0
    while True:
        new = [rate for rate in rates if rate not in finals]
        swept = _sweep(task, make_tx, new, key, sizes)
        wait_for(swept)
        losses = np.asarray(swept[:, :, -1], np.float64)
        finals |= dict(zip(new, losses, strict=True))
        found = _judge(rates, np.stack([finals[rate] for rate in rates]), sizes)
        if found.edge is None or decades == MOST_DECADES:
            return found
        decades += 1
        lower = [rates[0] * 10 ** (-i / 3) for i in (3, 2, 1)]
        upper = [rates[-1] * 10 ** (i / 3) for i in (1, 2, 3)]
        rates = lower + rates if found.edge == "lowest" else rates + upper


def _judge(rates: Sequence[float], finals: np.ndarray, sizes: Sizes) -> Tuning:
    """Finds the best of `rates` by their final losses, `[len(rates), num_tasks]`."""
    finite = np.isfinite(finals)
    nonfinite = (~finite).sum(axis=1)
    sums = np.where(finite, finals, 0.0).sum(axis=1)
    means = np.where(finite.any(axis=1), sums / np.maximum(1, finite.sum(axis=1)), np.inf)
    # Fewest that diverged first, only where no rate is without.
    diverged = nonfinite if nonfinite.all() else nonfinite > 0
    best = min(range(len(rates)), key=lambda i: (diverged[i], means[i], rates[i]))
    ends = {min(rates): "lowest", max(rates): "highest"}
    return Tuning(
        learning_rate=float(rates[best]),
        edge="lowest" if rates[best] == min(rates) else ends.get(rates[best]),
        grid=tuple(sorted(map(float, rates))),
        final_losses=tuple(
            None if nonfinite[i] else float(means[i]) for i in np.argsort(rates, kind="stable")
        ),
        nonfinite=tuple(int(nonfinite[i]) for i in np.argsort(rates, kind="stable")),
        num_tasks=sizes.num_tasks,
        num_steps=sizes.num_steps,
    )


def _warn(found: Tuning) -> None:
    if found.edge is not None:
        warnings.warn(
            f"The best learning rate, {found.learning_rate:g}, is the {found.edge} of those "
            f"tried, {found.grid[0]:g} ... {found.grid[-1]:g}; a better one may lie beyond.",
            stacklevel=3,
        )
    if all(found.nonfinite):
        warnings.warn(
            f"At every learning rate from {found.grid[0]:g} to {found.grid[-1]:g} an optimizee "
            f"ends non-finite; {found.learning_rate:g} has the fewest.",
            stacklevel=3,
        )


def _sweep(
    task: Task, make_tx: MakeTransform, rates: Sequence[float], key: Key, sizes: Sizes
) -> jax.Array:
    """Losses `[len(rates), num_tasks, num_steps + 1]`."""
    parts, data = task_parts(task)
    together = program(_all_rates, [*parts, make_tx], (type(task), sizes))
    try:
        return together(data, jnp.asarray(rates, jnp.float32), key)
    except jax.errors.JaxRuntimeError:
        raise
    except Exception:  # `make_tx` may be one that wants numbers; if it is not, this fails alike
        pass
    losses = []
    for rate in map(float, rates):
        tx = make_tx(rate)
        check_run(task, tx, key, *sizes[:3])
        losses.append(run(task, tx, key, sizes).losses)
    return jnp.stack(losses)


def _all_rates(parts, settings, data, rates, key):
    kind, sizes = settings
    task, (make_tx,) = whole_task(kind, parts, data)
    # lax.map over the rates, not vmap: the optimizees already fill the device.
    return jax.lax.map(lambda rate: rollouts_of(task, make_tx(rate), key, sizes).losses, rates)


def _checked(
    task: Any, make_tx: Any, learning_rates: Any, key: Any, sizes: Sizes
) -> tuple[float, ...]:
    """The rates as plain numbers, if all fit."""
    check_task(task)
    if not callable(make_tx):
        raise TypeError(
            "make_tx must be a function of the learning rate such as optax.adam, got "
            f"{short(make_tx)}."
        )
    if np.ndim(learning_rates) != 1 or not len(learning_rates):
        raise ValueError(
            f"tune needs a list of at least one learning rate, got {short(learning_rates)}."
        )
    for rate in learning_rates:
        check_number("learning_rates", rate, above=0)
    check_counts(key, sizes.num_tasks, sizes.num_steps, sizes.at_once)
    return tuple(map(float, learning_rates))
