"""RNNProp's state, and its equations for a block of coordinates."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from l2ljax.base import PyTree
from l2ljax.checks import check_real_floating
from l2ljax.optimizers.networks import CoordinatewiseLSTM, LSTMCarry
from l2ljax.optimizers.sharding import repeated_over

BiasCorrection = bool | Literal["constant"]
"""What the moments are divided by, see `rnnprop`."""


class ScaleByRNNPropState(NamedTuple):
    """State of `scale_by_rnnprop`.

    Attributes:
        count: int32 scalar, updates made so far (it stops at the largest int32).
        momentum: tree like the parameters, float32: the moving average of g.
        second_moment: likewise, of g^2.
        carry: one `LSTMCarry` a layer, leaves `[hidden_size, *param.shape]` in the network's
            `state_dtype`, or in its dtype where none is given.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    momentum: PyTree
    second_moment: PyTree
    carry: tuple[LSTMCarry, ...]


def init_state(network: CoordinatewiseLSTM, params: PyTree) -> ScaleByRNNPropState:
    """Before the first step: zeros.

    Raises:
        TypeError: if a parameter is not of a real floating dtype.
    """
    check_real_floating(params, "parameter")

    def zeros() -> PyTree:
        return jax.tree.map(lambda param: jnp.zeros_like(param, dtype=jnp.float32), params)

    return ScaleByRNNPropState(
        count=jnp.zeros([], jnp.int32),
        momentum=zeros(),
        second_moment=zeros(),
        carry=jax.tree.map(lambda zero: repeated_over(zero, params), network.initial_carry()),
    )


def step_coordinates(
    apply: Any,
    output_scale: jax.Array,
    constants: tuple[float | jax.Array, float | jax.Array, float | jax.Array],
    corrections: tuple[jax.Array | float, jax.Array | float],
    state: Any,
    gradient: jax.Array,
) -> tuple[Any, jax.Array]:
    """The equations of `rnnprop`, for a block of coordinates."""
    (b1, b2, eps), (correct_m, correct_v) = constants, corrections
    momentum, second, carry = state
    gradient = gradient.astype(jnp.float32)
    momentum = b1 * momentum + (1 - b1) * gradient
    second = b2 * second + (1 - b2) * gradient * gradient
    scale = jax.lax.rsqrt(second * correct_v + eps)
    inputs = jnp.stack([momentum * correct_m * scale, gradient * scale])
    carry, output = apply(carry, inputs)
    return (momentum, second, carry), output_scale * jnp.tanh(output)


def corrections_at(
    count: jax.Array,
    b1: float | jax.Array,
    b2: float | jax.Array,
    bias_correction: BiasCorrection,
) -> tuple[jax.Array | float, jax.Array | float]:
    """Factors on m and v at step `count`."""
    if bias_correction == "constant":
        return 1 / (1 - b1), 1 / (1 - b2)
    if not bias_correction:
        return 1.0, 1.0
    steps = count.astype(jnp.float32)
    # 1 - b^t, without the cancellation of float32 where b is near 1
    return tuple(-1 / jnp.expm1(steps * jnp.log1p(jnp.float32(b - 1))) for b in (b1, b2))  # pyright: ignore
