"""A small network on the features of one tensor: what small_fc and Celo2 share.

Features are what `l2ljax.optimizers.tensors` keeps, and what is made of it, each divided by its
root mean square over the tensor. So a tensor is gone through twice: for the mean squares, and for
the network. Both go block by block, so that features are never held for a whole tensor; features
of whole rows or columns enter the first layer as such.

A small network on a large tensor is written out as sums of products of planes, one plane a feature
or unit and a plane like the tensor: the compiler makes one loop of them, which holds all units of a
coordinate at once and no feature in memory (docs/cost.md).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.base import MetaParams
from l2ljax.optimizers.block_size import BlockSize, BlockSizes, chosen_block_size
from l2ljax.optimizers.blocks import cut_axis, map_over_blocks, sum_over_blocks
from l2ljax.optimizers.features import (
    FactoredMoments,
    factored_scales,
    mean_over,
    rows_and_columns,
)
from l2ljax.optimizers.tensors import MomentsState, bounded

BLOCK_SIZES = BlockSizes(cpu=32_768, accelerator=2**20)
"""Coordinates: some 8 MiB of temporaries, or a quarter of a GiB."""

MOST_PRODUCTS = 512
"""A network of more multiplications a coordinate is faster, and compiled sooner, as matrices."""

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


def apply_network(
    network: Network,
    gradient: jax.Array,
    param: jax.Array,
    moments: MomentsState,
    axes: Sequence[int],
    output: Callable[[Any], jax.Array],
    block_size: BlockSize,
) -> jax.Array:
    """What `output` makes of the network's outputs for each coordinate of one tensor.

    Args:
        network: its weights and features.
        gradient: `[*shape]`.
        param: `[*shape]`.
        moments: of this tensor, after this gradient.
        axes: of the tensor, over which features are normalised.
        output: the network's outputs, `[*block]` each -> `[*block]`.
        block_size: coordinates at once; `None`: all.

    Returns:
        float32 `[*shape]`.
    """
    size = chosen_block_size(block_size, BLOCK_SIZES)
    shape = gradient.shape
    is_vector = len(shape) < 2
    after = tuple(axis + 1 for axis in axes)  # behind the axis of the features
    arrays = _arrays(network, gradient, param, moments, after)
    first, _ = _slices(network.groups)
    names = [name for name in network.groups if is_vector or name not in LINES]
    kernel = jnp.concatenate([network.params["kernel_0"][:, first[n]] for n in names], axis=1)
    weights = dict(network.params) | {"kernel_0": kernel}
    number = int(np.prod([shape[axis] for axis in axes]))

    def features_of(block: dict[str, Any]) -> list[jax.Array]:
        groups = _coordinate_features(block, network, is_vector)
        return [plane for name in names for plane in groups[name]]

    def as_matrices(weights: dict[str, Any], block: dict[str, Any]) -> jax.Array:
        x = jnp.stack(features_of(block))
        sums = block.get("sums")
        sums = jnp.sum(x * x, axis=after, keepdims=True) if sums is None else jnp.stack(sums)
        x = x * jax.lax.rsqrt(sums * (1 / number) + network.eps)
        hidden = jnp.tensordot(weights["kernel_0"], x, axes=1)
        for part in block["hidden"]:
            hidden = hidden + part
        return _other_layers(weights, hidden)

    @jax.custom_jvp
    def as_planes(weights: dict[str, Any], arrays: dict[str, Any]) -> tuple[jax.Array, ...]:
        sums = sum_over_blocks(_squares_of(features_of), arrays, shape, size, axes)
        scales = [jax.lax.rsqrt(x * (1 / number) + network.eps) for x in sums]
        if sums[0].size == 1:  # into the weights, as they are the same for all coordinates
            kernel = weights["kernel_0"] * jnp.stack([jnp.ravel(x) for x in scales], axis=1)
            weights = weights | {"kernel_0": kernel}
            scales = [None] * len(sums)
        x = features_of(arrays)
        x = [f if scale is None else f * scale for f, scale in zip(x, scales, strict=True)]
        return planes_network(weights, x, arrays["hidden"])

    # A derivative of sums of planes would be a sum over the tensor for each weight.
    as_planes.defjvp(
        lambda primals, tangents: jax.jvp(lambda *x: tuple(as_matrices(*x)), primals, tangents)
    )
    axis = cut_axis(shape, size)
    if axis is not None and axis in axes:
        if num_products(weights) <= MOST_PRODUCTS:
            return output(as_planes(weights, arrays))
        arrays["sums"] = sum_over_blocks(_squares_of(features_of), arrays, shape, size, axes)
    # else a block has whole slices, with all that their mean squares need
    return map_over_blocks(
        lambda block: output(as_matrices(weights, block)), arrays, gradient, size
    )


def _squares_of(planes: Callable[[Any], Sequence[jax.Array]]) -> Callable[[Any], list[jax.Array]]:
    return lambda block: [x * x for x in planes(block)]


def _arrays(
    network: Network,
    gradient: jax.Array,
    param: jax.Array,
    moments: MomentsState,
    after: tuple[int, ...],
) -> dict[str, Any]:
    """All that a block's features and first layer are made of, to be cut like the tensor."""
    shape = gradient.shape
    factored = FactoredMoments(moments.row, moments.column)
    row_scale, column_scale = factored_scales(factored, shape)
    arrays: dict[str, Any] = {
        "gradient": gradient,
        "param": param,
        "momentum": moments.momentum,
        "second_moment": moments.second_moment,
        "row_scale": row_scale,
        "column_scale": column_scale,
        "hidden": _shared_inputs(network, factored, shape, after),
    }
    return arrays if len(shape) > 1 else arrays | {"row": moments.row}


def _shared_inputs(
    network: Network, factored: FactoredMoments, shape: tuple[int, ...], after: tuple[int, ...]
) -> list[jax.Array]:
    """Terms of the first layer that all coordinates, or those of a row or column, have in common.

    Their sum broadcasts to `[units, *shape]`.
    """
    first, _ = _slices(network.groups)
    kernel, hidden = network.params["kernel_0"], network.params["bias_0"]
    if network.constant is not None:
        behind = kernel.shape[1] - network.constant.shape[0]
        hidden = hidden + kernel[:, behind:] @ network.constant
    hidden = hidden.reshape(-1, *[1] * len(shape))
    if len(shape) < 2:
        return [hidden]
    features = _line_features(*rows_and_columns(factored, shape))
    by_kind: dict[str, Any] = {"row": hidden, "column": 0.0}
    for name in (name for name in LINES if name in network.groups):
        x = features[name]
        x = x * jax.lax.rsqrt(mean_over(x * x, after) + network.eps)
        kind = name.split("_")[0]
        by_kind[kind] = by_kind[kind] + jnp.tensordot(kernel[:, first[name]], x, axes=1)
    return [x for x in by_kind.values() if not isinstance(x, float)]


def _coordinate_features(
    block: Mapping[str, jax.Array], network: Network, is_vector: bool
) -> dict[str, list[jax.Array]]:
    """Features by the name of their group, each a plane `[*block]`."""
    # here and not before, or the loop over blocks would read it from a copy of the whole gradient
    gradient = bounded(block["gradient"].astype(jnp.float32), network.clip)
    momenta, [second_moment] = list(block["momentum"]), list(block["second_moment"])
    one_over_root = jax.lax.rsqrt(second_moment + network.root_eps)
    scales = [r * c for r, c in zip(block["row_scale"], block["column_scale"], strict=True)]
    features = {
        "gradient": [gradient],
        "clipped_gradient": [jnp.clip(gradient, -0.1, 0.1)],
        "param": [block["param"].astype(jnp.float32)],
        "momentum": momenta,
        "second_moment": [second_moment],
        "momentum_over_root": [m * one_over_root for m in momenta],
        "one_over_root": [one_over_root],
        "factored_gradient": [gradient * scale for scale in scales],
        "gradient_over_root": [gradient * one_over_root],
        "factored_momentum": [m * scale for m, scale in zip(momenta, scales, strict=True)],
    }
    if is_vector:
        row = block["row"]
        features |= {name: list(x) for name, x in _line_features(row, row).items()}
        roots = jax.lax.rsqrt(row + network.vector_eps)
        features["factored_momentum"] = [m * root for m, root in zip(momenta, roots, strict=True)]
    return features


def _line_features(row: jax.Array, column: jax.Array) -> dict[str, jax.Array]:
    return {
        "row": row,
        "column": column,
        "row_rsqrt": jax.lax.rsqrt(row + 1e-8),
        "column_rsqrt": jax.lax.rsqrt(column + 1e-8),
    }


def _other_layers(params: Mapping[str, Any], hidden: jax.Array) -> jax.Array:
    """The layers behind the first, with relu between."""
    for i in range(1, num_layers(params)):
        bias = params[f"bias_{i}"]
        bias = bias.reshape(-1, *[1] * (hidden.ndim - 1))
        hidden = jnp.tensordot(params[f"kernel_{i}"], jax.nn.relu(hidden), axes=1) + bias
    return hidden


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


def _sums_of_products(
    kernel: jax.Array, planes: Sequence[jax.Array], start: Sequence[jax.Array]
) -> list[jax.Array]:
    sums = []
    for total, row in zip(start, kernel, strict=True):
        for weight, plane in zip(row, planes, strict=True):
            total = total + weight * plane
        sums.append(total)
    return sums


def num_products(params: Mapping[str, Any]) -> int:
    """Multiplications of the network with these weights, a coordinate."""
    return sum(params[f"kernel_{i}"].size for i in range(num_layers(params)))


def num_layers(params: Mapping[str, Any]) -> int:
    """Of the network whose weights these are."""
    return sum(name.startswith("kernel_") for name in params)


def _slices(groups: Mapping[str, int]) -> tuple[dict[str, slice], int]:
    """Columns of the first kernel that belong to each group."""
    slices, offset = {}, 0
    for name, number in groups.items():
        slices[name] = slice(offset, offset + number)
        offset += number
    return slices, offset


def init_layers(sizes: Sequence[int], key: jax.Array) -> MetaParams:
    """Fresh layers: kernels `[outputs, inputs]` of variance 1 / inputs, biases of 0."""
    params = {}
    keys = jax.random.split(key, len(sizes) - 1)
    for i, (inputs, outputs, layer_key) in enumerate(zip(sizes, sizes[1:], keys, strict=False)):
        params[f"kernel_{i}"] = (
            jax.random.normal(layer_key, (outputs, inputs), jnp.float32) * inputs**-0.5
        )
        params[f"bias_{i}"] = jnp.zeros(outputs, jnp.float32)
    return params
