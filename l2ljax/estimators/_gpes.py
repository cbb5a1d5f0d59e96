"""Generalized persistent evolution strategies: between pes and nres.

Li et al. (2023), arXiv:2304.12180, section 4.
"""

from typing import Any, Unpack

from l2ljax.base import LearnedOptimizer, Task
from l2ljax.checks import check_positive_int
from l2ljax.estimators.evolution import EvolutionStrategy
from l2ljax.estimators.strategies import Options, evolution_strategy


def gpes(
    task: Task,
    optimizer: LearnedOptimizer,
    *,
    num_tasks: int,
    episode_length: int | tuple[int, int],
    unroll_length: int,
    num_perturbations: int,
    sigma: Any,
    reuse_length: int,
    **options: Unpack[Options],
) -> EvolutionStrategy:
    """Generalized persistent evolution strategies.

    Each pair draws a new epsilon after every `reuse_length` steps of its episode, and its losses
    are multiplied with xi, the sum of those drawn since the episode began. With `reuse_length`
    equal to `unroll_length` this is `pes` (where windows begin at multiples of it), with
    `reuse_length` equal to `episode_length` it is `nres`; always unbiased, with a variance that
    grows with the number of draws in an episode.

    Args:
        task, optimizer, num_tasks, episode_length, unroll_length, num_perturbations, sigma: see
            `l2ljax.estimators.es`; `num_perturbations` counts antithetic pairs of each task.
        reuse_length: inner steps for which a perturbation is kept, counted from the episode's
            beginning; it may change inside a window.
        **options: see `l2ljax.estimators.strategies.Options`.

    Returns:
        a `GradientEstimator`. `meta_loss` is the window's weighted loss, averaged over all
        perturbed optimizees.

    Raises:
        ValueError, TypeError: in one sentence, for arguments that do not fit.

    Example:
        >>> import jax
        >>> from l2ljax.optimizers import lstm
        >>> from l2ljax.tasks import quadratic
        >>> estimator = gpes(
        ...     quadratic(), lstm((4,)), num_tasks=2, episode_length=10, unroll_length=5,
        ...     num_perturbations=3, sigma=0.01, reuse_length=5,
        ... )
        >>> meta_params = estimator.optimizer.init(jax.random.key(0))
        >>> state = estimator.init(jax.random.key(1), meta_params)
        >>> loss, grads, state, metrics = estimator.estimate(meta_params, state, jax.random.key(2))
        >>> int(metrics["pairs_left_out"])
        0
    """
    return evolution_strategy(
        task,
        optimizer,
        num_tasks=num_tasks,
        episode_length=episode_length,
        unroll_length=unroll_length,
        num_perturbations=num_perturbations,
        sigma=sigma,
        carried="pairs",
        redraw_every=check_positive_int("reuse_length", reuse_length),
        accumulates=True,
        **options,
    )
