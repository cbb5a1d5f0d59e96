"""A small network written out as sums of products of planes, one plane a feature or unit."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp


def planes_network(
    params: Mapping[str, Any], features: Sequence[jax.Array], hidden: Sequence[jax.Array]
) -> tuple[jax.Array, ...]:
    """The network as sums of products of planes: the outputs, `[*shape]` each.

    Args:
        params: `kernel_i` `[outputs, inputs]` and `bias_i` of each layer, but the first bias.
        features: planes `[*shape]`.
        hidden: `[units, ...]`, what is added to the first layer, to be broadcast.
    """
    units = [functools.reduce(jnp.add, parts) for parts in zip(*hidden, strict=True)]
    x = _sums_of_products(params["kernel_0"], features, units)
    for i in range(1, num_layers(params)):
        # The compiler makes half the instructions of it that it makes of a maximum with 0.
        x = [jnp.where(plane <= 0, 0.0, plane) for plane in x]
        x = _sums_of_products(params[f"kernel_{i}"], x, list(params[f"bias_{i}"]))
    return tuple(x)


CHAIN = 6
"""Products that are added one after the other: a sum waits for the one before."""


def _sums_of_products(
    kernel: jax.Array, planes: Sequence[jax.Array], start: Sequence[jax.Array]
) -> list[jax.Array]:
    # single numbers, and not a row of them for each sum: that would be a program for each row
    weights, inputs = list(jnp.ravel(kernel)), len(planes)
    return [
        functools.reduce(jnp.add, _chains(weights[i * inputs : (i + 1) * inputs], planes), first)
        for i, first in enumerate(start)
    ]


def _chains(weights: Sequence[jax.Array], planes: Sequence[jax.Array]) -> list[jax.Array]:
    """Sums of `CHAIN` products each, which a processor can make side by side."""
    products = [weight * plane for weight, plane in zip(weights, planes, strict=True)]
    return [
        functools.reduce(jnp.add, products[i : i + CHAIN]) for i in range(0, len(products), CHAIN)
    ]


def num_products(params: Mapping[str, Any]) -> int:
    """Multiplications of the network with these weights, a coordinate."""
    return sum(params[f"kernel_{i}"].size for i in range(num_layers(params)))


def num_layers(params: Mapping[str, Any]) -> int:
    """Of the network whose weights these are."""
    return sum(name.startswith("kernel_") for name in params)
