"""Sums over a tensor of many planes, in one pass over the arrays that they are made of.

The planes are operands of one reduction along the last axis, which the compiler makes one loop of:
it reads each array once, holds all sums of a run in registers and no plane in memory. Summed in
runs of a few hundred, as float32 would lose digits over a long axis.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from l2ljax.base import PyTree

LONGEST_RUN = 1024
"""Of neighbours that are added one by one: an error of some 1e-6, relative."""

SHORTEST_RUN = 64

MOST_SUMS = 12
"""In one loop. A processor has 16 registers, and a sum that is kept in memory waits for itself."""


def run_length(shape: Sequence[int]) -> int | None:
    """The longest run that divides the last axis; `None` where there is none of a fitting length.

    Example:
        >>> run_length((5, 3162)), run_length((5, 100)), run_length((5, 50257))
        (527, 100, None)
    """
    fitting = range(min(shape[-1], LONGEST_RUN), SHORTEST_RUN - 1, -1)
    return next((length for length in fitting if shape[-1] % length == 0), None)


def sum_in_runs(
    function: Callable[[PyTree], Sequence[jax.Array]],
    arrays: PyTree,
    shape: Sequence[int],
    axes: Sequence[int],
) -> jax.Array:
    """Sums over `axes` of the planes that `function` makes of a parameter's arrays.

    Args:
        function: treats each coordinate alone: arrays -> planes, float32 of the same shape. Planes
            that are made of the same arrays should be neighbours.
        arrays: leaves `[..., *shape]`; an axis of `shape` may have length 1 in them.
        shape: of the parameter; its last axis has a `run_length`.
        axes: of `shape`, the last among them; they stay with length 1.

    Returns:
        `[number of planes, *shape]` with length 1 at `axes`.

    Example:
        >>> x = jnp.ones((2, 100))
        >>> sum_in_runs(lambda x: [x, 2 * x], x, x.shape, axes=(0, 1)).ravel().tolist()
        [200.0, 400.0]
    """
    length, run = shape[-1], run_length(shape)
    assert run is not None

    def split(leaf: jax.Array) -> jax.Array:
        number = (length // run, run) if leaf.shape[-1] == length else (1, 1)
        return leaf.reshape(*leaf.shape[:-1], *number)

    planes = function(jax.tree.map(split, arrays))
    sums: list[jax.Array] = []
    for start in range(0, len(planes), MOST_SUMS):
        group = list(planes[start : start + MOST_SUMS])
        zeros = [jnp.zeros([], jnp.float32)] * len(group)
        sums += jax.lax.reduce(group, zeros, _add, (len(shape),))
    runs = jnp.sum(jnp.stack(sums), axis=-1, keepdims=True)
    others = tuple(axis + 1 for axis in axes if axis != len(shape) - 1)
    return jnp.sum(runs, axis=others, keepdims=True)


def _add(a: Any, b: Any) -> Any:
    return [x + y for x, y in zip(a, b, strict=True)]
