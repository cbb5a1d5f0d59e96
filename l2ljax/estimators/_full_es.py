"""Evolution strategies on whole episodes.

Metz et al. (2022), VeLO, arXiv:2211.09760, trained with it; Salimans et al. (2017),
arXiv:1703.03864.
"""

from typing import Any, Unpack

from l2ljax.base import LearnedOptimizer, Task
from l2ljax.checks import short
from l2ljax.estimators.episodes import check_lengths
from l2ljax.estimators.evolution import EvolutionStrategy
from l2ljax.estimators.strategies import Options, evolution_strategy


def full_es(
    task: Task,
    optimizer: LearnedOptimizer,
    *,
    num_tasks: int,
    episode_length: int | tuple[int, int],
    num_perturbations: int,
    sigma: Any,
    unroll_length: int | None = None,
    **options: Unpack[Options],
) -> EvolutionStrategy:
    """Antithetic evolution strategies on whole episodes.

    Each meta-gradient comes of new optimizees, run from theta_0 to the end of an episode: the mean
    over tasks and pairs of (L+ - L-) / (2 sigma^2) * epsilon, with L the episode's weighted loss.
    Unbiased for that loss, smoothed over epsilon; one update costs a whole episode. Nothing is
    carried from one update to the next: the state is the empty tuple.

    With lengths that are drawn, all run for the largest and what comes after an episode's end is
    not counted.

    Args:
        task, optimizer, num_tasks, episode_length, num_perturbations, sigma: see
            `l2ljax.estimators.es`; `num_perturbations` counts antithetic pairs of each task.
        unroll_length: none is needed; if given, it must be the (largest) episode length.
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
        >>> estimator = full_es(
        ...     quadratic(), lstm((4,)), num_tasks=2, episode_length=10, num_perturbations=3,
        ...     sigma=0.01,
        ... )
        >>> meta_params = estimator.optimizer.init(jax.random.key(0))
        >>> state = estimator.init(jax.random.key(1), meta_params)
        >>> loss, grads, state, metrics = estimator.estimate(meta_params, state, jax.random.key(2))
        >>> int(metrics["pairs_left_out"])
        0
    """
    whole = check_lengths(episode_length)[1]
    if unroll_length is not None and unroll_length != whole:
        raise ValueError(
            f"full_es runs whole episodes of {whole} steps, got unroll_length="
            f"{short(unroll_length)}; leave it out, or take es, pes or nres."
        )
    return evolution_strategy(
        task,
        optimizer,
        num_tasks=num_tasks,
        episode_length=episode_length,
        unroll_length=whole,
        num_perturbations=num_perturbations,
        sigma=sigma,
        carried="nothing",
        redraw_every=None,
        **options,
    )
