"""Noise-reuse evolution strategies: one perturbation for each episode of a pair.

Li et al. (2023), arXiv:2304.12180; the same as ES-Single, Vicol (2023), arXiv:2304.11153.
"""

from typing import Any, Unpack

from l2ljax.base import LearnedOptimizer, Task
from l2ljax.checks import LARGEST_INT
from l2ljax.estimators.evolution import EvolutionStrategy
from l2ljax.estimators.strategies import Options, evolution_strategy


def nres(
    task: Task,
    optimizer: LearnedOptimizer,
    *,
    num_tasks: int,
    episode_length: int | tuple[int, int],
    unroll_length: int,
    num_perturbations: int,
    sigma: Any,
    **options: Unpack[Options],
) -> EvolutionStrategy:
    """Noise-reuse evolution strategies.

    Each pair goes on from its own perturbed states and keeps one epsilon for a whole episode; the
    meta-gradient of a window is the mean over tasks and pairs of (L+ - L-) / (2 sigma^2) * epsilon.
    Over an episode's windows that adds up to evolution strategies on the whole episode: unbiased
    for its loss, smoothed over epsilon, with a variance that does not grow with the number of
    windows.

    A new epsilon is drawn where an episode begins, inside a window too. The state holds the random
    keys of the perturbations, not the perturbations.

    Args:
        task, optimizer, num_tasks, episode_length, unroll_length, num_perturbations, sigma: see
            `l2ljax.estimators.es`; `num_perturbations` counts antithetic pairs of each task.
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
        >>> estimator = nres(
        ...     quadratic(), lstm((4,)), num_tasks=2, episode_length=10, unroll_length=5,
        ...     num_perturbations=3, sigma=0.01,
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
        redraw_every=LARGEST_INT,  # position 0 alone is a multiple of it
        **options,
    )
