"""What `nominal` remembers from one update to the next."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import PyTree
from l2ljax.optimizers.nominal_directions import DECAYS
from l2ljax.optimizers.nominal_options import Options
from l2ljax.optimizers.nominal_statistics import num_remembered
from l2ljax.optimizers.sharding import axis_in_front


class ScaleByNominalState(NamedTuple):
    """State of `scale_by_nominal`: 4 or 5 float32 numbers a parameter, and 5 or 7 a tensor.

    And one in all with a `noise_limit`.

    Attributes:
        count: int32 scalar, updates made so far (it stops at the largest int32).
        momenta: one tree like the parameters for each of `DECAYS`, float32.
        second: tree like the parameters, float32.
        memory: for each parameter `[5 or 7, 1, ..., 1]` float32, what is remembered of the tensor:
            see `nominal_statistics.num_remembered`.
        pending: tree like the parameters, float32, of what is still to be taken of past steps;
            an empty one where steps are not averaged.
        noise: float32 scalar, mean square of gradients up to step 100; an empty tree where there
            is no `noise_limit`.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    momenta: tuple[PyTree, ...]
    second: PyTree
    memory: PyTree
    pending: PyTree
    noise: PyTree


def fresh_state(options: Options, params: PyTree) -> ScaleByNominalState:
    """A state of zeros, each of its trees with buffers of its own, so that it can be donated."""
    trees = [
        optax.tree.zeros_like(params, dtype=jnp.float32)
        for _ in range(len(DECAYS) + 1 + options.averaged)
    ]
    momenta, (second, *pending) = trees[: len(DECAYS)], trees[len(DECAYS) :]
    columns = num_remembered(len(DECAYS), options.from_start)
    memory = axis_in_front(
        jax.tree.map(lambda p: jnp.zeros((columns, *[1] * jnp.ndim(p)), jnp.float32), params)
    )
    count = jnp.zeros([], jnp.int32)
    noise = () if options.noise_limit is None else jnp.zeros([], jnp.float32)
    return ScaleByNominalState(
        count, tuple(momenta), second, memory, pending[0] if pending else (), noise
    )
