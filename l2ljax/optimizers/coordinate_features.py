"""Features of each coordinate of a tensor, as planes like it: what small_fc and Celo2 read.

Each is a product of factors, so the square of a feature is that product of squares.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from l2ljax.optimizers.tensors import bounded

LINES = ("row", "column", "row_rsqrt", "column_rsqrt")
"""Features that a whole row or column shares."""


class Network(NamedTuple):
    """A network of features.

    Attributes:
        params: `kernel_i` `[outputs, inputs]` and `bias_i` of each layer.
        groups: name of each group of features -> how many, in the order of the first kernel.
        root_eps: added to g^2's average inside roots.
        eps: added to mean squares.
        vector_eps: for the factored momentum of a vector.
        constant: `[number]`, further inputs of the first layer that all coordinates share.
        clip: largest size of a gradient's entry; `None`: no bound.
    """

    params: Mapping[str, Any]
    groups: Mapping[str, int]
    root_eps: float
    eps: float
    vector_eps: float
    constant: Any = None
    clip: float | None = None


def factors_of(
    block: Mapping[str, jax.Array], network: Network, is_vector: bool
) -> dict[str, list[jax.Array]]:
    """What features are, or are products of: planes `[*block]`."""
    # here and not before, or the loop over blocks would read it from a copy of the whole gradient
    gradient = bounded(block["gradient"].astype(jnp.float32), network.clip)
    [second_moment] = list(block["second_moment"])
    scales = zip(block["row_scale"], block["column_scale"], strict=True)
    factors = {
        "gradient": [gradient],
        "clipped_gradient": [jnp.clip(gradient, -0.1, 0.1)],
        "param": [block["param"].astype(jnp.float32)],
        "momentum": list(block["momentum"]),
        "second_moment": [second_moment],
        "one_over_root": [jax.lax.rsqrt(second_moment + network.root_eps)],
        "scale": [row * column for row, column in scales],
    }
    factors["momentum_scale"] = factors["scale"]
    if is_vector:
        row = block["row"]
        factors |= {name: list(x) for name, x in line_features(row, row).items()}
        factors["momentum_scale"] = list(jax.lax.rsqrt(row + network.vector_eps))
    return factors


def squared_factors_of(
    block: Mapping[str, jax.Array], network: Network, is_vector: bool
) -> dict[str, list[jax.Array]]:
    """Their squares. That of a root takes none, and is no array that two passes would share."""
    factors = factors_of(block, network, is_vector)
    squares = {name: [x * x for x in planes] for name, planes in factors.items()}
    return squares | {"one_over_root": [1 / (block["second_moment"][0] + network.root_eps)]}


def features_from(factors: Mapping[str, list[jax.Array]]) -> dict[str, list[jax.Array]]:
    """Features by the name of their group, or the squares of features from those of factors."""
    [gradient], [one_over_root] = factors["gradient"], factors["one_over_root"]
    momenta, scales = factors["momentum"], factors["scale"]
    return dict(factors) | {
        "momentum_over_root": [m * one_over_root for m in momenta],
        "factored_gradient": [gradient * scale for scale in scales],
        "gradient_over_root": [gradient * one_over_root],
        "factored_momentum": [
            m * scale for m, scale in zip(momenta, factors["momentum_scale"], strict=True)
        ],
    }


def line_features(row: jax.Array, column: jax.Array) -> dict[str, jax.Array]:
    return {
        "row": row,
        "column": column,
        "row_rsqrt": jax.lax.rsqrt(row + 1e-8),
        "column_rsqrt": jax.lax.rsqrt(column + 1e-8),
    }
