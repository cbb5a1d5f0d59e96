"""One step of an LSTM layer as one kernel, for GPUs (Pallas, Triton) and TPUs (Pallas, Mosaic).

A layer of 20 units keeps 160 bytes a coordinate, and its gates are 320 more. What XLA makes of the
plain formula writes the gates to memory, and a copy of the layer's inputs before them; here a block
of coordinates is read once, its gates stay in registers, and the next state is written. The
backward pass computes them anew, from the layer's inputs and nothing else.

A tile is `[units, coordinates]`. Triton's tiles have powers of two as sizes, and at least 16 where
matrices are multiplied: units are padded with zeros on the way into registers, never in memory, and
what would lie beyond an array is neither read nor written.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from l2ljax.optimizers.platforms import refused
from l2ljax.optimizers.tiles import (
    TILINGS,
    Sizes,
    Tiling,
    packed,
    product,
    read,
    sizes_of,
    unpacked,
    write,
)


def fused_layer(
    weights: jax.Array,
    inputs: jax.Array,
    hidden: jax.Array,
    cell: jax.Array,
    *,
    interpret: bool = False,
    tiling: Tiling | None = None,
) -> tuple[jax.Array, jax.Array]:
    """`lstm_cell(weights @ [inputs, hidden, 1], cell)` for every coordinate, in one kernel.

    It has a VJP, no JVP, and batches under `jax.vmap`. Products are those of XLA's default: TF32 on
    a GPU, unless `jax.default_matmul_precision` asks for more.

    Args:
        weights: `[4 * H, K + H + 1]`, the last column the bias.
        inputs: `[K, *shape]`: what the layer sees of each coordinate.
        hidden: `[H, *shape]`.
        cell: `[H, *shape]`.
        interpret: compute it as the kernel would, with JAX's operations: slow, on any platform.
        tiling: of the platform's coordinates; `None`: that of `TILINGS`.

    Returns:
        h' and c', each `[H, *shape]`, of the dtype of `inputs`; float32 or bfloat16. Activations
        are computed in float32.

    Raises:
        ValueError: when it is compiled for another platform than those of `TILINGS`, and for
            coordinates that are sharded explicitly.

    Example:
        >>> state = jnp.full((2, 3), 0.5)
        >>> hidden, cell = fused_layer(jnp.zeros((8, 4)), state[:1], state, state, interpret=True)
        >>> cell[0].tolist()  # half remembered, nothing new
        [0.25, 0.25, 0.25]
    """
    if hidden.size == 0:
        return hidden.astype(inputs.dtype), cell.astype(inputs.dtype)
    spec = jax.typeof(inputs).sharding.spec
    if any(axis is not None for axis in spec):
        raise ValueError(
            f'kernel="pallas" takes parameters that are whole on a device, got ones sharded as '
            f'{spec}; use kernel="plain", which computes with the same weights.'
        )
    flat = [x.reshape(x.shape[0], -1) for x in (inputs, hidden, cell)]
    layer: Any = _layer  # whose type `jax.custom_vjp` does not tell
    next_hidden, next_cell = layer(_How(interpret, tiling), weights, *flat)
    return next_hidden.reshape(hidden.shape), next_cell.reshape(cell.shape)


class _How(NamedTuple):
    interpret: bool
    tiling: Tiling | None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _layer(how, weights, inputs, hidden, cell):
    return _on_platform(_forward, how, weights, inputs, hidden, cell)


def _layer_fwd(how, *arguments):
    return _layer(how, *arguments), arguments


def _layer_bwd(how, arguments, cotangents):
    return _on_platform(_backward, how, *arguments, *cotangents)


_layer.defvjp(_layer_fwd, _layer_bwd)


def _on_platform(function: Callable[..., Any], how: _How, *arrays: jax.Array) -> Any:
    """`function` for the platform that the program is compiled for."""
    interpreted = functools.partial(function, "interpret", how.tiling or TILINGS["cuda"])
    if how.interpret:
        return interpreted(*arrays)
    branches = {
        name: functools.partial(function, name, how.tiling or tiling)
        for name, tiling in TILINGS.items()
    }
    like = jax.eval_shape(interpreted, *arrays)

    def nowhere(*arrays):
        del arrays
        return jax.tree.map(lambda x: refused(jnp.zeros(x.shape, x.dtype)), like)

    return lax.platform_dependent(*arrays, **branches, default=nowhere)


def _activations(weights, inputs, hidden, cell, s: Sizes) -> tuple[jax.Array, ...]:
    """The four gates after their activations, the next cell and its tanh, all float32."""
    of_inputs, of_hidden, bias = weights

    def gate(g: int) -> jax.Array:
        total = product(of_inputs[g], inputs, (1, 0), s)
        return total + product(of_hidden[g], hidden, (1, 0), s) + bias[g]

    i, f, z, o = _logistic(gate(0)), _logistic(gate(1)), jnp.tanh(gate(2)), _logistic(gate(3))
    next_cell = f * cell + i * z
    return i, f, z, o, next_cell, jnp.tanh(next_cell)


def _logistic(x: jax.Array) -> jax.Array:
    return 1 / (1 + jnp.exp(-x))


def _call(kernel, platform, tiling, s: Sizes, programs: int, arrays, tiles_out, sums_out):
    """`pl.pallas_call` over all coordinates.

    Args:
        kernel: of references to `arrays` and to what comes out.
        arrays: the three of packed weights, then `[rows, coordinates]` ones.
        tiles_out: shapes like the latter.
        sums_out: shapes of what each program sums for itself; they come out stacked.
    """
    from jax.experimental import pallas as pl

    weights, columns = arrays[:3], arrays[3:]
    sums = [jax.ShapeDtypeStruct((programs, *x.shape), x.dtype) for x in sums_out]

    def spec(x):
        if platform != "tpu":  # Tiles are cut inside the kernel.
            return pl.BlockSpec()
        return pl.BlockSpec((x.shape[0], tiling.block), lambda p: (0, p))

    def of_program(x):
        return pl.BlockSpec((None, *x.shape[1:]), lambda p: (p, *[0] * (len(x.shape) - 1)))

    options: dict[str, Any] = {"interpret": platform == "interpret"}
    if platform == "cuda":
        from jax.experimental.pallas import triton

        options["compiler_params"] = triton.CompilerParams(num_warps=tiling.warps, num_stages=1)
    return pl.pallas_call(
        functools.partial(kernel, platform, tiling, s),
        grid=(programs,),
        in_specs=[pl.BlockSpec()] * len(weights) + [spec(x) for x in columns],
        out_specs=[spec(x) for x in tiles_out] + [of_program(x) for x in sums],
        out_shape=[*tiles_out, *sums],
        **options,
    )(*weights, *columns)


def _forward(platform, tiling, weights, inputs, hidden, cell):
    s = sizes_of(platform, inputs, hidden)
    like = jax.ShapeDtypeStruct(hidden.shape, inputs.dtype)
    arrays = (*packed(weights, s, inputs.dtype), inputs, hidden, cell)
    programs = -(-s.coordinates // tiling.block)
    return tuple(_call(_forward_kernel, platform, tiling, s, programs, arrays, [like, like], []))


def _forward_kernel(platform, tiling, s: Sizes, *refs):
    from jax.experimental import pallas as pl

    weights, (inputs, hidden, cell), outputs = refs[:3], refs[3:6], refs[6:]
    start = pl.program_id(0) * tiling.block
    tile = functools.partial(read, platform, start=start, block=tiling.block, s=s)
    x = tile(inputs, s.padded_inputs)
    h = tile(hidden, s.padded_units).astype(x.dtype)
    c = tile(cell, s.padded_units).astype(jnp.float32)
    *_, o, next_cell, squashed = _activations(weights, x, h, c, s)
    for ref, tile in zip(outputs, (o * squashed, next_cell), strict=True):
        write(platform, ref, tile, start, s)


def _backward(platform, tiling, weights, inputs, hidden, cell, d_hidden, d_cell):
    s = sizes_of(platform, inputs, hidden)
    matrices = packed(weights, s, inputs.dtype)
    tiles = -(-s.coordinates // tiling.block)
    each = -(-tiles // min(tiles, tiling.programs))
    programs = -(-tiles // each)
    like = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (inputs, hidden, cell)]
    sums = [jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in matrices]
    arrays = (*matrices, inputs, hidden, cell, d_hidden, d_cell)
    kernel = functools.partial(_backward_kernel, each)
    *columns, x, h, b = _call(kernel, platform, tiling, s, programs, arrays, like, sums)
    d_weights = unpacked(tuple(part.sum(0) for part in (x, h, b)), s)
    return d_weights.astype(weights.dtype), *columns


def _backward_kernel(each: int, platform, tiling, s: Sizes, *refs):
    from jax.experimental import pallas as pl

    weights, columns, outputs, sums = refs[:3], refs[3:8], refs[8:11], refs[11:]
    first = pl.program_id(0) * each * tiling.block

    def add_tile(j, totals):
        return _backward_tile(platform, tiling, s, weights, columns, outputs, first, j, totals)

    zeros = [(jnp.zeros(ref.shape[1:], jnp.float32),) * 4 for ref in sums]
    totals = add_tile(0, zeros) if each == 1 else lax.fori_loop(0, each, add_tile, zeros)
    for ref, gates in zip(sums, totals, strict=True):
        for g, total in enumerate(gates):
            ref[g] = total


def _backward_tile(platform, tiling, s: Sizes, weights, columns, outputs, first, j, totals):
    """Writes the cotangents of one tile, and adds its part of the weights' to `totals`."""
    start = first + jnp.asarray(j, jnp.int32) * tiling.block  # int64 under enable_x64
    tile = functools.partial(read, platform, start=start, block=tiling.block, s=s)
    x = tile(columns[0], s.padded_inputs)
    h = tile(columns[1], s.padded_units).astype(x.dtype)
    c, d_hidden, d_next = (tile(ref, s.padded_units).astype(jnp.float32) for ref in columns[2:])
    i, f, z, o, _, squashed = _activations(weights, x, h, c, s)
    d_next += d_hidden * o * (1 - squashed * squashed)
    # 0 beyond the arrays, as the cotangents are there.
    d_gates = (
        d_next * (z * i * (1 - i)),
        d_next * (c * f * (1 - f)),
        d_next * (i * (1 - z * z)),
        d_hidden * (squashed * o * (1 - o)),
    )
    low = [d.astype(x.dtype) for d in d_gates]
    of_inputs, of_hidden, _ = weights
    d_x = functools.reduce(jnp.add, [product(of_inputs[g], low[g], (0, 0), s) for g in range(4)])
    d_h = functools.reduce(jnp.add, [product(of_hidden[g], low[g], (0, 0), s) for g in range(4)])
    for ref, tile in zip(outputs, (d_x, d_h, d_next * f), strict=True):
        write(platform, ref, tile, start, s)
    by_inputs, by_hidden, by_bias = totals
    return [
        tuple(total + product(d, x, (1, 1), s) for total, d in zip(by_inputs, low, strict=True)),
        tuple(total + product(d, h, (1, 1), s) for total, d in zip(by_hidden, low, strict=True)),
        tuple(
            total + jnp.sum(d, axis=1, keepdims=True)
            for total, d in zip(by_bias, d_gates, strict=True)
        ),
    ]
