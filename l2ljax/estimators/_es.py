"""Truncated evolution strategies: antithetic pairs that start each window from a common state.

Algorithm 1 of Vicol, Metz and Sohl-Dickstein (2021), arXiv:2112.13835, and Metz et al. (2019),
arXiv:1810.10180.
"""

from typing import Any, Unpack

from l2ljax.base import LearnedOptimizer, Task
from l2ljax.estimators.evolution import EvolutionStrategy
from l2ljax.estimators.strategies import Options, evolution_strategy


def es(
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
    """Truncated antithetic evolution strategies.

    In each window every task runs `num_perturbations` pairs under phi + epsilon and phi - epsilon
    from where its unperturbed optimizee stands, with epsilon ~ N(0, sigma^2) of its own for each
    pair. The meta-gradient is the mean over tasks and pairs of (L+ - L-) / (2 sigma^2) * epsilon,
    with L the window's weighted loss; then the unperturbed optimizee goes the same way.

    It is smooth where backpropagation explodes, and as blind as truncated backpropagation to what
    phi does beyond the window: unbiased (for the loss smoothed over epsilon) only where one window
    is the whole episode.

    Args:
        task: what to optimize. Its loss is differentiated in the inner steps, and nowhere else.
        optimizer: what learns to optimize it.
        num_tasks: optimizees side by side, each with an instance and minibatches of its own.
        episode_length: inner steps from theta_0 to the end [T]; or bounds `(low, high)` between
            which each episode's length is drawn, its logarithm uniformly.
        unroll_length: inner steps in a window [K]; an episode may end inside one, and the next
            begins there.
        num_perturbations: antithetic pairs of each task. A meta-gradient comes of `num_tasks *
            num_perturbations` draws of epsilon and of twice as many perturbed optimizees [the N of
            Vicol et al. counts the latter, that of Li et al. and learned_optimization the former].
            The pairs of a task share its instance and minibatches.
        sigma: standard deviation of epsilon: a number, or a tree of numbers like the
            meta-parameters or a prefix of it.
        **options: see `l2ljax.estimators.strategies.Options`: `weights`, `reduction`, `objective`,
            `loss_transform`, `told`, `delta_losses`, `sign`, `stagger`, `perturbations_at_once`,
            `mesh` and `shard_data`.

    Returns:
        a `GradientEstimator`. `meta_loss` is the window's weighted loss, averaged over all
        perturbed optimizees.

    Raises:
        ValueError, TypeError: in one sentence, for arguments that do not fit.

    Example:
        >>> import jax
        >>> from l2ljax.optimizers import lstm
        >>> from l2ljax.tasks import quadratic
        >>> estimator = es(
        ...     quadratic(), lstm((4,)), num_tasks=2, episode_length=10, unroll_length=5,
        ...     num_perturbations=3, sigma=0.01,
        ... )
        >>> meta_params = estimator.optimizer.init(jax.random.key(0))
        >>> state = estimator.init(jax.random.key(1), meta_params)
        >>> loss, grads, state, metrics = estimator.estimate(meta_params, state, jax.random.key(2))
        >>> metrics["losses"].shape, metrics["position"].shape
        ((6,), (2,))
    """
    return evolution_strategy(
        task,
        optimizer,
        num_tasks=num_tasks,
        episode_length=episode_length,
        unroll_length=unroll_length,
        num_perturbations=num_perturbations,
        sigma=sigma,
        carried="centre",
        redraw_every=None,
        **options,
    )
