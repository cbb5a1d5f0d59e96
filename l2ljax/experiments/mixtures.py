"""What the recommended optimizers are meta-trained with: estimators over the suite's tasks."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.base import GradientEstimator, LearnedOptimizer, Task
from l2ljax.checks import check_kind, check_number, check_positive_int, is_number, short
from l2ljax.estimators import mixture, nres, truncated_bptt
from l2ljax.optimizers import build
from l2ljax.specification.plain import specification_of
from l2ljax.tasks import suite
from l2ljax.tasks.transforms import random_scale

SOLVED = 1e-6
"""Added to losses before their logarithm: below it there is little left to learn from."""


def suite_mixture(
    optimizer: LearnedOptimizer,
    num_tasks: int = 2,
    unroll_length: int = 50,
    shortest: int = 100,
    longest: int = 2000,
    num_perturbations: int = 4,
    sigma: float = 0.02,
    scale: float = 10.0,
    tasks: Sequence[str] | None = None,
    horizons: Sequence[int] | None = None,
    tells: bool = False,
    late: float = 0.0,
) -> GradientEstimator:
    """Noise-reuse evolution strategies over training tasks of the suite, each in random units.

    The meta-loss is the mean over a window of log(f + 1e-6), so that a task counts by the factors
    it gains and not by its scale; lengths of episodes are drawn log-uniform, so that no horizon is
    learned; all parameters of an optimizee are measured in a unit from 1 / scale to scale.

    Args:
        optimizer: what is trained.
        num_tasks: optimizees of a task side by side.
        unroll_length: inner steps in a window.
        shortest, longest: bounds of the episodes' lengths.
        num_perturbations: antithetic pairs of each optimizee.
        sigma: their standard deviation.
        scale: largest unit, at least 1.
        tasks: names of training tasks; default: all.
        horizons: for an optimizer that is told the number of steps: lengths of episodes, in place
            of drawn ones. The tasks take them in turn, and the optimizer of a task is built anew
            with its `num_steps`; meta-parameters are the same for all.
        tells: tell the optimizer each episode's length, but for one in four, of which it is told
            that there is no end; it must be one that takes `num_steps`.
        late: the share t / T of an episode to this power is the weight of a step's loss: above 0
            what an episode ends with counts more than how it gets there.

    Raises:
        ValueError: for a name that is no training task, `tells` with `horizons` or an optimizer
            that has no `num_steps`, `late` below 0, and whatever `nres` refuses.
    """
    _check_told(optimizer, horizons, tells)
    if not (is_number(late) and late >= 0):
        raise ValueError(f"late must be a number of at least 0, got {short(late)}.")
    members = {}
    for i, (name, task) in enumerate(_in_random_units(tasks, scale).items()):
        told, length = optimizer, (shortest, longest)
        if horizons:
            length = horizons[i % len(horizons)]
            check_positive_int("horizons", length)
            told = build({**(specification_of(optimizer) or {}), "num_steps": length})
        members[name] = nres(
            task,
            told,
            num_tasks=num_tasks,
            episode_length=length,
            unroll_length=unroll_length,
            num_perturbations=num_perturbations,
            sigma=sigma,
            reduction="mean",
            loss_transform=log_of_unsolved,
            weights=rising_to_the(late),
            told=length_or_no_end if tells else None,
        )
    return mixture(members)


def suite_backpropagation(
    optimizer: LearnedOptimizer,
    num_tasks: int = 2,
    unroll_length: int = 20,
    shortest: int = 100,
    longest: int = 1000,
    coordinate_share: float = 0.25,
    scale: float = 3.0,
    tasks: Sequence[str] | None = None,
) -> GradientEstimator:
    """Truncated backpropagation over training tasks of the suite, for coordinatewise networks.

    Optimizees stand at staggered positions of episodes whose lengths are drawn log-uniform, so
    that each meta-gradient sees early and late steps, and no horizon is learned.

    Args:
        optimizer: what is trained.
        num_tasks: optimizees of a task side by side.
        unroll_length: inner steps in a window.
        shortest, longest: bounds of the episodes' lengths.
        coordinate_share: see `l2ljax.estimators.truncated_bptt`.
        scale: largest unit of the parameters, at least 1.
        tasks: names of training tasks; default: all.

    Raises:
        ValueError: for a name that is no training task, and whatever `truncated_bptt` refuses.
    """
    return mixture(
        {
            name: truncated_bptt(
                task,
                optimizer,
                num_tasks=num_tasks,
                episode_length=(shortest, longest),
                unroll_length=unroll_length,
                stagger=True,
                coordinate_share=coordinate_share,
            )
            for name, task in _in_random_units(tasks, scale).items()
        }
    )


def _in_random_units(tasks: Sequence[str] | None, scale: float) -> dict[str, Task]:
    train = suite.tasks("train")
    names = list(train if tasks is None else tasks)
    if unknown := [name for name in names if name not in train]:
        raise ValueError(
            f"tasks must be training tasks of the suite, got {short(unknown)}; there are "
            f"{', '.join(train)}."
        )
    check_number("scale", scale, above=0)
    return {name: random_scale(train[name], 1 / scale, scale) for name in names}


def _check_told(optimizer: LearnedOptimizer, horizons: Any, tells: Any) -> None:
    check_kind("tells", tells, bool)
    if tells and horizons:
        raise ValueError(
            "horizons are lengths that the optimizer is built with, tells=True tells it drawn "
            "ones: leave one of them out."
        )
    specification = specification_of(optimizer)
    if tells and specification is not None and specification.get("num_steps") is None:
        raise ValueError(
            "tells=True needs an optimizer that takes the number of steps: build it with "
            "num_steps=1000, say, whatever the lengths of episodes."
        )


def length_or_no_end(length: jax.Array) -> jax.Array:
    """The length, float32; infinity for one in four of them, always the same ones."""
    apart = jax.random.uniform(jax.random.key(length)) < 0.25
    return jnp.where(apart, jnp.inf, length.astype(jnp.float32))


def rising_to_the(power: float) -> Callable[[np.ndarray], Sequence[float]]:
    """Weights (t / T)^power of steps 1 ... T, scaled to a mean of 1.

    Example:
        >>> rising_to_the(1.0)(np.arange(1, 4))
        [0.5, 1.0, 1.5]
    """

    def weights(steps: np.ndarray) -> list[float]:
        found = (steps / steps[-1]) ** power
        return (found / found.mean()).tolist()

    return weights


def log_of_unsolved(losses: jax.Array) -> jax.Array:
    """log(f + 1e-6) of losses f >= 0, NaN where f is."""
    return jnp.log(losses + SOLVED)
