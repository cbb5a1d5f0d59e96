"""A small network on the features of one tensor: what small_fc and Celo2 share.

Features are what `l2ljax.optimizers.tensors` keeps, and what is made of it, each divided by its
root mean square over the tensor. So a tensor is gone through twice: for the mean squares, and for
the network. Features are never held for a whole tensor; those of whole rows or columns enter the
first layer as such.

A small network on a large tensor is written out as sums of products of planes, one plane a feature
or unit and a plane like the tensor: the compiler makes one loop of them, which holds all units of a
coordinate at once and no feature in memory (docs/cost.md).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.base import MetaParams
from l2ljax.optimizers.block_size import BlockSize, BlockSizes, chosen_block_size
from l2ljax.optimizers.blocks import cut_axis, map_over_blocks, sum_over_blocks
from l2ljax.optimizers.coordinate_features import (
    LINES,
    Network,
    factors_of,
    features_from,
    line_features,
    squared_factors_of,
)
from l2ljax.optimizers.features import (
    FactoredMoments,
    factored_scales,
    mean_over,
    rows_and_columns,
)
from l2ljax.optimizers.planes import num_layers, num_products, planes_network
from l2ljax.optimizers.sums import run_length, sum_in_runs
from l2ljax.optimizers.tensors import MomentsState

BLOCK_SIZES = BlockSizes(cpu=32_768, accelerator=2**20)
"""Coordinates: some 8 MiB of temporaries, or a quarter of a GiB."""

MOST_PRODUCTS = 512
"""A network of more multiplications a coordinate is faster, and compiled sooner, as matrices."""


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
    names, weights = _own_inputs(network, is_vector)
    number = int(np.prod([shape[axis] for axis in axes]))

    def features_of(
        block: dict[str, Any], factors: Callable[..., Any] = factors_of
    ) -> list[jax.Array]:
        groups = features_from(factors(block, network, is_vector))
        return [plane for name in names for plane in groups[name]]

    squares_of = functools.partial(features_of, factors=squared_factors_of)

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
        sums = _sums_at_once(squares_of, arrays, gradient, size, axes)
        scales = jax.lax.rsqrt(sums * (1 / number) + network.eps)
        x = features_of(arrays)
        if scales.size == len(x):  # into the weights, as they are the same for all coordinates
            weights = weights | {"kernel_0": weights["kernel_0"] * scales.ravel()}
        else:
            x = [f * scale for f, scale in zip(x, scales, strict=True)]
        return planes_network(weights, x, arrays["hidden"])

    # A derivative of sums of planes would be a sum over the tensor for each weight.
    as_planes.defjvp(
        lambda primals, tangents: jax.jvp(lambda *x: tuple(as_matrices(*x)), primals, tangents)
    )
    axis = cut_axis(shape, size)
    if axis is not None and axis in axes:
        if num_products(weights) <= MOST_PRODUCTS:
            return output(as_planes(weights, arrays))
        arrays["sums"] = sum_over_blocks(squares_of, arrays, shape, size, axes)
    # else a block has whole slices, with all that their mean squares need
    return map_over_blocks(
        lambda block: output(as_matrices(weights, block)), arrays, gradient, size
    )


def _own_inputs(network: Network, is_vector: bool) -> tuple[list[str], dict[str, Any]]:
    """Groups of features that are a coordinate's own, and the weights with a first kernel of them.

    Those that read rows and columns come last: see `sum_in_runs`.
    """
    first, _ = _slices(network.groups)
    names = [name for name in network.groups if is_vector or name not in LINES]
    names = sorted(names, key=lambda name: name.startswith("factored"))
    kernel = jnp.concatenate([network.params["kernel_0"][:, first[n]] for n in names], axis=1)
    return names, dict(network.params) | {"kernel_0": kernel}


def _sums_at_once(
    planes: Callable[[Any], Sequence[jax.Array]],
    arrays: dict[str, Any],
    like: jax.Array,
    block_size: int | None,
    axes: Sequence[int],
) -> jax.Array:
    """Sums of the planes, `[number, *shape]`: in one pass where the last axis has runs."""
    if run_length(like.shape) is None or _is_split_last(like):
        return jnp.stack(sum_over_blocks(planes, arrays, like.shape, block_size, axes))
    return sum_in_runs(planes, arrays, like.shape, axes)


def _is_split_last(x: jax.Array) -> bool:
    """Whether the last axis is sharded explicitly: then runs would have to fit the shards."""
    spec = jax.typeof(x).sharding.spec
    return len(spec) == x.ndim and spec[-1] is not None


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
    features = line_features(*rows_and_columns(factored, shape))
    by_kind: dict[str, Any] = {"row": hidden, "column": 0.0}
    for kind in by_kind:
        names = [name for name in LINES if name.startswith(kind) and name in network.groups]
        x = jnp.concatenate([features[name] for name in names])
        x = x * jax.lax.rsqrt(mean_over(x * x, after) + network.eps)
        weights = jnp.concatenate([kernel[:, first[name]] for name in names], axis=1)
        by_kind[kind] = by_kind[kind] + jnp.tensordot(weights, x, axes=1)
    return list(by_kind.values())


def _other_layers(params: Mapping[str, Any], hidden: jax.Array) -> jax.Array:
    """The layers behind the first, with relu between."""
    for i in range(1, num_layers(params)):
        bias = params[f"bias_{i}"]
        bias = bias.reshape(-1, *[1] * (hidden.ndim - 1))
        hidden = jnp.tensordot(params[f"kernel_{i}"], jax.nn.relu(hidden), axes=1) + bias
    return hidden


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
