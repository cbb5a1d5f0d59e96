"""Tiles of coordinates in a kernel, and weights packed for them; see `fused_layer.py`."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Tiling(NamedTuple):
    """How coordinates are divided among programs.

    Attributes:
        block: coordinates of a tile: a power of two, on TPU a multiple of 128.
        warps: of 32 threads each, that share a tile on a GPU.
        programs: of the backward pass. Each sums its part of the weights' gradient over its tiles.
    """

    block: int
    warps: int = 8
    programs: int = 264


TILINGS = {"cuda": Tiling(block=128), "tpu": Tiling(block=1024, programs=2**30)}
"""The platforms with a lowering."""


class Sizes(NamedTuple):
    """Of a layer: inputs K, units H, and both padded for a platform; coordinates; products."""

    inputs: int
    units: int
    padded_inputs: int
    padded_units: int
    coordinates: int
    precision: Any


def sizes_of(platform: str, inputs: jax.Array, hidden: jax.Array) -> Sizes:
    def padded(size: int) -> int:
        if platform == "tpu":
            return size
        return max(16, 1 << (size - 1).bit_length())

    precision = None
    if platform == "cuda" and inputs.dtype == jnp.float32:
        asked = jax.config.jax_default_matmul_precision  # pyright: ignore
        exact = asked in ("highest", "float32", "F32_F32_F32")
        name = "F32_F32_F32" if exact else "TF32_TF32_F32"
        precision = lax.DotAlgorithmPreset[name]
    seen, units = inputs.shape[0], hidden.shape[0]
    return Sizes(seen, units, padded(seen), padded(units), inputs.shape[1], precision)


def packed(weights: jax.Array, s: Sizes, dtype: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`[4, units, inputs]`, `[4, units, units]` and `[4, units, 1]`: padded, a gate at a time."""
    weights = weights.reshape(4, s.units, -1).astype(dtype)
    rows, columns = s.padded_units - s.units, s.padded_inputs - s.inputs
    of_inputs, of_hidden, bias = jnp.split(weights, [s.inputs, s.inputs + s.units], axis=2)
    return (
        jnp.pad(of_inputs, ((0, 0), (0, rows), (0, columns))),
        jnp.pad(of_hidden, ((0, 0), (0, rows), (0, rows))),
        jnp.pad(bias, ((0, 0), (0, rows), (0, 0))).astype(jnp.float32),
    )


def unpacked(parts: tuple[jax.Array, ...], s: Sizes) -> jax.Array:
    """The inverse: `[4 * H, K + H + 1]`."""
    of_inputs, of_hidden, bias = (part[:, : s.units] for part in parts)
    joined = [of_inputs[..., : s.inputs], of_hidden[..., : s.units], bias]
    return jnp.concatenate(joined, axis=2).reshape(4 * s.units, -1)


def read(platform: str, ref: Any, rows: int, start: Any, block: int, s: Sizes) -> jax.Array:
    """The tile `[rows, block]` at coordinate `start`, 0 beyond the array."""
    shape = (rows, block)
    inside = start + lax.broadcasted_iota(jnp.int32, shape, 1) < s.coordinates
    if platform == "tpu":
        return jnp.where(inside, ref[...], 0)
    from jax.experimental.pallas import ds, triton

    inside &= lax.broadcasted_iota(jnp.int32, shape, 0) < ref.shape[0]
    return triton.load(ref.at[ds(0 * start, rows), ds(start, block)], mask=inside, other=0)


def write(platform: str, ref: Any, tile: jax.Array, start: Any, s: Sizes) -> None:
    """Of a tile what is not padding, to coordinate `start`."""
    tile = tile.astype(ref.dtype)
    if platform == "tpu":
        ref[...] = tile
        return
    from jax.experimental.pallas import ds, triton

    rows, block = tile.shape
    inside = start + lax.broadcasted_iota(jnp.int32, tile.shape, 1) < s.coordinates
    inside &= lax.broadcasted_iota(jnp.int32, tile.shape, 0) < ref.shape[0]
    triton.store(ref.at[ds(0 * start, rows), ds(start, block)], tile, mask=inside)


def product(a: jax.Array, b: jax.Array, contract: tuple[int, int], s: Sizes) -> jax.Array:
    dims = (((contract[0],), (contract[1],)), ((), ()))
    return lax.dot_general(a, b, dims, s.precision, preferred_element_type=jnp.float32)
