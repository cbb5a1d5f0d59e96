"""Persistent evolution strategies: unbiased meta-gradients from windows of an episode.

Algorithm 2 of Vicol, Metz and Sohl-Dickstein (2021), arXiv:2112.13835.
"""

from typing import Any, Unpack

from l2ljax.base import LearnedOptimizer, Task
from l2ljax.estimators.evolution import EvolutionStrategy
from l2ljax.estimators.strategies import Options, evolution_strategy


def pes(
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
    """Persistent evolution strategies.

    Each pair goes on from its own perturbed states, and draws a new epsilon for each window. The
    sum xi of all that it drew since its episode began is what its losses depend on: the
    meta-gradient is the mean over tasks and pairs of (L+ - L-) / (2 sigma^2) * xi. It is unbiased
    for the whole episode's loss, smoothed over epsilon, however short the windows; its variance
    grows with their number.

    Where an episode ends inside a window, the losses of the next one are multiplied with the
    window's own epsilon alone, which xi goes on from. The state holds xi, an array as large as the
    meta-parameters for each pair.

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
        >>> estimator = pes(
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
        redraw_every=None,
        accumulates=True,
        **options,
    )
