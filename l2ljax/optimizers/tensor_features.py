"""The thirty features of Celo and VeLO, and the small network that reads them.

Moudgil et al. (2025), "Celo"; Metz et al. (2022), arXiv:2211.09760. Every feature is divided by its
root mean square over the tensor, so a rule reads the tensor as a whole.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.base import Key, PyTree
from l2ljax.optimizers.features import (
    FactoredMoments,
    factored_axes,
    factored_scales,
    mean_over,
    rms_normalized,
    rows_and_columns,
    update_factored_moments,
    update_moments,
    zero_factored_moments,
    zero_moments,
)

DECAYS = np.array([0.9, 0.99, 0.999], np.float32)
"""Of the first moments and of the factored second moments."""

RMS_DECAYS = np.array([0.999], np.float32)

NUM_FEATURES = 30

LARGEST_GRADIENT = 1000.0
"""Gradients are clipped to it before anything else sees them."""


class Moments(NamedTuple):
    """Running averages of one parameter `[*shape]`, or four trees like the parameters.

    Attributes:
        first: `[3, *shape]` float32.
        second: `[1, *shape]` float32.
        row: `[3, *shape]` with length 1 at the longest axis, see `features.FactoredMoments`.
        column: the same with length 1 at the second longest axis.
    """

    first: PyTree
    second: PyTree
    row: PyTree
    column: PyTree


def zero_tensor_moments(param: jax.Array) -> Moments:
    """All-zero `Moments` of one parameter."""
    return Moments(
        zero_moments(param, len(DECAYS)),
        zero_moments(param, len(RMS_DECAYS)),
        *zero_factored_moments(param, len(DECAYS)),
    )


def update_tensor_moments(moments: Moments, gradient: jax.Array) -> Moments:
    """Moves all averages towards what `gradient`, float32, gives. No bias correction."""
    factored = FactoredMoments(moments.row, moments.column)
    return Moments(
        update_moments(moments.first, gradient, DECAYS),
        update_moments(moments.second, gradient * gradient, RMS_DECAYS),
        *update_factored_moments(factored, gradient, DECAYS),
    )


def tensor_features(moments: Moments, gradient: jax.Array, param: jax.Array) -> jax.Array:
    """What the network sees of each coordinate.

    In order, with m the first moments, r = 1 / sqrt(second moment + 1e-6): g, g clipped to 0.1, p,
    m (3), v, m r (3), r, factored g (3), g r, row (3), column (3), 1 / sqrt(row + 1e-8) (3), the
    same of the column (3), factored m (3).

    Args:
        moments: after the gradient.
        gradient: `[*shape]` float32.
        param: `[*shape]` float32.

    Returns:
        `[30, *shape]` float32.
    """
    factored = FactoredMoments(moments.row, moments.column)
    row, column = rows_and_columns(factored, gradient.shape)
    row_scale, column_scale = factored_scales(factored, gradient.shape)
    if factored_axes(gradient.shape) is None:
        # Without the small constant, so that its slope is infinite where no gradient has been.
        none = moments.first == 0
        over = jax.lax.rsqrt(jnp.where(none, 1, moments.row))
        of_moments = jnp.where(none, 0, moments.first * over)
    else:
        of_moments = moments.first * row_scale * column_scale
    root = jax.lax.rsqrt(moments.second + 1e-6)
    one = gradient[None]
    groups = [
        one,
        jnp.clip(one, -0.1, 0.1),
        param[None],
        moments.first,
        moments.second,
        moments.first * root,
        root,
        one * row_scale * column_scale,
        one * root,
        row,
        column,
        jax.lax.rsqrt(row + 1e-8),
        jax.lax.rsqrt(column + 1e-8),
        of_moments,
    ]
    axes = tuple(range(1, gradient.ndim + 1))
    # Rows and columns are spread by a sum, which shards them as the gradient on explicit meshes.
    spread = jnp.zeros_like(one)
    return jnp.concatenate([rms_normalized(x, axes, eps=1e-5) + spread for x in groups])


def run_network(weights: dict[str, Any], features: jax.Array) -> jax.Array:
    """A network of three layers and ReLUs on every coordinate: `[30, *shape]` -> `[3, *shape]`.

    Args:
        weights: "w0" `[30, width]`, "b0" `[width]`, "w1", "b1", "w2" `[width, 3]`, "b2" `[3]`.
        features: `[30, *shape]`.
    """
    x = features
    for layer in range(3):
        bias = weights[f"b{layer}"].reshape(-1, *[1] * (x.ndim - 1))
        x = jnp.tensordot(weights[f"w{layer}"], x, axes=(0, 0)) + bias
        x = jax.nn.relu(x) if layer < 2 else x
    return x


def network_step(weights: dict[str, Any], features: jax.Array, param: jax.Array) -> jax.Array:
    """The network's proposal o_0 exp(o_1 / 1000) rms(param), to be subtracted: `[*shape]`."""
    output = run_network(weights, features)
    size = jnp.sqrt(mean_over(param * param, tuple(range(param.ndim))) + 1e-9)
    return output[0] * size * jnp.exp(0.001 * output[1])


def init_network(key: Key, width: int) -> dict[str, jax.Array]:
    """Fresh weights of `run_network`: normal over sqrt(fan-in), biases 0."""
    sizes = (NUM_FEATURES, width, width, 3)
    weights = {}
    for layer, (k, n, m) in enumerate(
        zip(jax.random.split(key, 3), sizes[:-1], sizes[1:], strict=True)
    ):
        weights[f"w{layer}"] = jax.random.normal(k, (n, m), jnp.float32) / n**0.5
        weights[f"b{layer}"] = jnp.zeros(m, jnp.float32)
    return weights


def clipped(gradient: Any) -> jax.Array:
    """The gradient as float32, within `LARGEST_GRADIENT`."""
    return jnp.clip(jnp.asarray(gradient, jnp.float32), -LARGEST_GRADIENT, LARGEST_GRADIENT)


def check_read(name: str, updates: PyTree, params: Any, value: Any) -> jax.Array:
    """Refuses an `update` without what the rule reads; the loss as a float32 scalar.

    A tree `updates` without leaves needs no `params`.

    Raises:
        ValueError: naming what is missing.
    """
    if value is None:
        raise ValueError(
            f"{name} reads the loss, but update() got none: pass the scalar of this step as value=."
        )
    if params is None and jax.tree.leaves(updates):
        raise ValueError(f"{name} reads the parameters, but update() got none: pass params.")
    if jnp.shape(value) != ():
        raise ValueError(f"value must be the loss, a scalar, got shape {jnp.shape(value)}.")
    return jnp.asarray(value, jnp.float32)
