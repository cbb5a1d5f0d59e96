"""A coordinatewise step over a large parameter, block by block, so that temporaries stay small.

Blocks are interleaved where that can be: an axis of length n is seen as [n / b, b] and block j
takes the entries [:, j]. An axis that is sharded in equal parts then stays so, and each device
works on its own part of each block. Other parameters (vectors, and axes without a fitting divisor)
are cut into runs of neighbours.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from l2ljax.base import PyTree

Step = Callable[[PyTree, jax.Array], tuple[PyTree, jax.Array]]


def in_blocks(
    step: Step, carry: PyTree, gradient: jax.Array, block_size: int | None
) -> tuple[PyTree, jax.Array]:
    """`step(carry, gradient)`, computed a block of coordinates at a time.

    Args:
        step: treats each coordinate alone, and keeps the shapes and dtypes of `carry`.
        carry: leaves `[..., *gradient.shape]`.
        gradient: any shape.
        block_size: coordinates at once, about; `None` or enough for all: one call.

    Returns:
        what `step` returns.

    Example:
        >>> double = lambda carry, g: (carry + g, 2 * g)
        >>> carry, update = in_blocks(double, jnp.zeros(6), jnp.arange(6.0), block_size=2)
        >>> update.tolist()
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    shape = gradient.shape
    if block_size is None or gradient.size <= block_size:
        return step(carry, gradient)
    # Each block is read from these buffers and its results are written over it: the loop holds
    # one copy of the state, and no more than a block besides. They hold gradients and updates.
    update_dtype = jax.eval_shape(step, carry, gradient)[1].dtype
    with jax.numpy_dtype_promotion("standard"):
        wide = jnp.promote_types(update_dtype, gradient.dtype)
    if wide != update_dtype:
        carry, update = in_blocks(_widened(step, wide), carry, gradient, block_size)
        return carry, update.astype(update_dtype)
    buffers = (carry, gradient.astype(update_dtype))
    if (num_blocks := interleaved_blocks(shape, block_size)) is not None:
        axis = longest_axis(shape[:-1])
        split_shape = (*shape[:axis], shape[axis] // num_blocks, num_blocks, *shape[axis + 1 :])
        buffers = _with_trailing_shape(buffers, shape, split_shape)
        from_end = len(shape) - axis  # of the axis with the blocks

        def update_block(j, buffers):
            return _update(step, buffers, from_end, j, 1)

        buffers = jax.lax.fori_loop(0, num_blocks, update_block, buffers)
        return _with_trailing_shape(buffers, split_shape, shape)
    axis = longest_axis(shape)
    length, from_end = shape[axis], len(shape) - axis
    run = max(1, block_size * length // gradient.size)

    def update_run(j, buffers):
        # The last run ends where the axis does and leaves alone what the one before has done.
        start = jnp.minimum(j * run, length - run)
        is_new = jnp.expand_dims(start + jnp.arange(run) >= j * run, range(1, from_end))
        return _update(step, buffers, from_end, start, run, is_new)

    return jax.lax.fori_loop(0, -(-length // run), update_run, buffers)


def _widened(step: Step, dtype: Any) -> Step:
    """The step, whose update is told in a dtype that holds the gradient too."""

    def widened(carry: PyTree, gradient: jax.Array) -> tuple[PyTree, jax.Array]:
        carry, update = step(carry, gradient)
        return carry, update.astype(dtype)

    return widened


def interleaved_blocks(shape: tuple[int, ...], block_size: int) -> int | None:
    """How many blocks the longest axis but the last is interleaved into; `None` for runs instead.

    It is the least number that divides the axis and makes blocks of at most `block_size`. Blocks
    sixteen times smaller than asked for would be slow, and are no use: an axis with no fitting
    divisor cannot be sharded in many equal parts either.
    """
    if len(shape) < 2:
        return None
    length = shape[longest_axis(shape[:-1])]
    size = 1
    for n in shape:
        size *= n
    fitting = range(-(-size // block_size), length + 1)
    num_blocks = next((n for n in fitting if length % n == 0), None)
    if num_blocks is None or 16 * (size // num_blocks) < block_size:
        return None
    return num_blocks


def longest_axis(shape: tuple[int, ...]) -> int:
    """The first of the longest axes."""
    return max(range(len(shape)), key=lambda axis: shape[axis])


def _update(step: Step, buffers, from_end: int, start, length: int, where: Any = True):
    """Steps the entries `start ... start + length` of the axis that is `from_end` from the end."""

    def cut(leaf):
        return jax.lax.dynamic_slice_in_dim(leaf, start, length, leaf.ndim - from_end)

    def put(leaf, block, stepped):
        stepped = jnp.where(where, stepped, block)
        return jax.lax.dynamic_update_slice_in_dim(leaf, stepped, start, leaf.ndim - from_end)

    # XLA would fuse the reads into the operations behind them, and then, not sure that all of them
    # come before the writes, copy whole buffers. A condition that always holds, which it cannot
    # know, makes it read the blocks first; an optimization barrier does not outlive its fusions.
    blocks = jax.tree.map(cut, buffers)
    blocks = jax.lax.cond(
        start >= 0, lambda b: b, lambda b: jax.tree.map(jnp.zeros_like, b), blocks
    )
    return jax.tree.map(put, buffers, blocks, step(*blocks))


def _with_trailing_shape(tree: PyTree, old: tuple[int, ...], new: tuple[int, ...]) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[: leaf.ndim - len(old)], *new), tree)


def sum_over_blocks(
    function: Callable[[PyTree], Sequence[jax.Array]],
    arrays: PyTree,
    shape: tuple[int, ...],
    block_size: int | None,
    axes: Sequence[int],
) -> list[jax.Array]:
    """Sums over `axes` of the planes that `function` makes of a parameter's blocks.

    The planes of all blocks are added up coordinate by coordinate, and only the result is summed:
    one loop for all of them that no sum within it holds up.

    Args:
        function: arrays of a block -> planes, each float32 of the block's shape.
        arrays: leaves `[..., *shape]`; an axis of `shape` may have length 1 in them, and then is
            not cut.
        shape: of the parameter.
        block_size: coordinates at once, about; `None` or enough for all: one call.
        axes: of `shape`, with the one that `cut_axis` names, if it names any; they stay with
            length 1.

    Example:
        >>> x = jnp.arange(6.0)
        >>> sums = sum_over_blocks(lambda x: [x, x * x], x, x.shape, block_size=4, axes=(0,))
        >>> [float(total[0]) for total in sums]
        [15.0, 55.0]
    """
    axis, number, interleaved, length = _plan(shape, block_size)

    def sums(planes: Sequence[jax.Array]) -> list[jax.Array]:
        return [jnp.sum(plane, axis=tuple(axes), keepdims=True) for plane in planes]

    if number == 1:
        return sums(function(arrays))
    cut, rest = _cutter(arrays, shape, axis, number, interleaved, length)

    def add(j, totals):
        return [total + plane for total, plane in zip(totals, function(cut(j)), strict=True)]

    zeros = [jnp.zeros_like(plane) for plane in function(cut(0))]  # sharded as planes are
    totals = sums(jax.lax.fori_loop(0, number, add, zeros))
    if rest is None:
        return totals
    return [total + left for total, left in zip(totals, sums(function(rest)), strict=True)]


def map_over_blocks(
    function: Callable[[PyTree], jax.Array],
    arrays: PyTree,
    like: jax.Array,
    block_size: int | None,
) -> jax.Array:
    """`function` of the blocks of a parameter, put together again.

    Args:
        function: arrays of a block -> float32 of the block's shape.
        arrays: as in `sum_over_blocks`.
        like: an array with the parameter's shape and sharding.
        block_size: as in `sum_over_blocks`.

    Returns:
        float32 like `like`.

    Example:
        >>> x = jnp.arange(6.0)
        >>> map_over_blocks(lambda x: 2 * x, x, x, block_size=4).tolist()
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    shape = like.shape
    axis, number, interleaved, length = _plan(shape, block_size)
    if number == 1:
        return function(arrays)
    cut, rest = _cutter(arrays, shape, axis, number, interleaved, length)
    out = jnp.zeros_like(like, dtype=jnp.float32)
    if interleaved:
        out = out.reshape(*shape[:axis], length, number, *shape[axis + 1 :])

        def put(j, out):
            return jax.lax.dynamic_update_index_in_dim(out, function(cut(j)), j, axis + 1)

        return jax.lax.fori_loop(0, number, put, out).reshape(shape)

    def put_run(j, out):
        return jax.lax.dynamic_update_slice_in_dim(out, function(cut(j)), j * length, axis)

    out = jax.lax.fori_loop(0, number, put_run, out)
    if rest is not None:
        out = jax.lax.dynamic_update_slice_in_dim(out, function(rest), number * length, axis)
    return out


def cut_axis(shape: tuple[int, ...], block_size: int | None) -> int | None:
    """The axis along which those two cut a parameter; `None` if it is all one block."""
    axis, number, *_ = _plan(shape, block_size)
    return None if number == 1 else axis


def _plan(shape: tuple[int, ...], block_size: int | None) -> tuple[int, int, bool, int]:
    """(axis, number of whole blocks, whether they are interleaved, entries of the axis in one)."""
    size = 1
    for n in shape:
        size *= n
    if block_size is None or size <= block_size:
        return 0, 1, False, 0
    if (number := interleaved_blocks(shape, block_size)) is not None:
        axis = longest_axis(shape[:-1])
        return axis, number, True, shape[axis] // number
    axis = longest_axis(shape)
    run = min(shape[axis], max(1, block_size * shape[axis] // size))
    return axis, shape[axis] // run, False, run


def _cutter(
    arrays: PyTree,
    shape: tuple[int, ...],
    axis: int,
    number: int,
    interleaved: bool,
    length: int,
) -> tuple[Callable[[Any], PyTree], PyTree | None]:
    """`cut(j)`, the arrays of block j, and those of what is left over by whole runs."""
    from_end = len(shape) - axis

    def is_cut(leaf):
        return leaf.shape[leaf.ndim - from_end] != 1

    if interleaved:

        def split(leaf):
            at = leaf.ndim - from_end
            shape = (*leaf.shape[:at], length, number, *leaf.shape[at + 1 :])
            return leaf.reshape(shape) if is_cut(leaf) else leaf

        wholes = jax.tree.map(is_cut, arrays)
        split_arrays = jax.tree.map(split, arrays)

        def cut(j):
            return jax.tree.map(
                lambda leaf, cut_here: (
                    jax.lax.dynamic_index_in_dim(leaf, j, leaf.ndim - from_end, keepdims=False)
                    if cut_here
                    else leaf
                ),
                split_arrays,
                wholes,
            )

        return cut, None

    def take(start, length):
        return jax.tree.map(
            lambda leaf: (
                jax.lax.dynamic_slice_in_dim(leaf, start, length, leaf.ndim - from_end)
                if is_cut(leaf)
                else leaf
            ),
            arrays,
        )

    left = shape[axis] - number * length
    return lambda j: take(j * length, length), take(number * length, left) if left else None
