"""What evolution strategies carry from window to window, and what a window of pairs comes to."""

from typing import NamedTuple

import jax

from l2ljax.base import PyTree
from l2ljax.estimators.episodes import Episodes
from l2ljax.estimators.particles import Pairs


class EvolutionState(NamedTuple):
    """Where the running episodes stand.

    Attributes:
        episodes: of each task.
        pairs: the running optimizees: the perturbed ones `[tasks, pairs, 2]`, or the unperturbed
            ones `[tasks, 1, 1]` that the pairs of `es` start from.
        total: the sum of the perturbations of this episode, `[tasks, pairs, ...]`, or `None` where
            no sum is needed.
    """

    episodes: Episodes
    pairs: Pairs
    total: PyTree


class Outcome(NamedTuple):
    """Of the pairs of a window; leaves have leading axes `[tasks, pairs]`.

    Attributes:
        losses: float32 `[tasks, pairs, num_steps + 1]`, f(theta_t), mean of the two members.
        value: float32, the weighted objective, mean of the two members.
        fine: bool, whether all was finite.
        bad_at: int32, the step of its episode at which something was not.
    """

    losses: jax.Array
    value: jax.Array
    fine: jax.Array
    bad_at: jax.Array
