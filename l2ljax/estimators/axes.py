"""Functions over the axes [tasks, pairs, members] of evolution strategies, in parts where asked."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from l2ljax.base import Key, MetaParams, PyTree

Draw = Callable[[Key], MetaParams]
"""Random key -> one perturbation of the meta-parameters."""


def select(mask: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    """`yes` where `mask` holds, else `no`; leaves begin with the axes of `mask`."""

    def one(a, b):
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    return jax.tree.map(one, yes, no)


def fold(keys: Key, number: jax.Array | int) -> Key:
    """Another key for each of `keys`, of any shape."""
    return jax.vmap(lambda k: jax.random.fold_in(k, number))(keys.reshape(-1)).reshape(keys.shape)


def draw_all(draw: Draw, keys: Key) -> PyTree:
    """One perturbation for each of `keys` `[tasks, pairs]`."""
    return jax.vmap(jax.vmap(draw))(keys)


def each_member(function, *axes):
    """`function` for every task, pair and member; `axes` says which of them an argument has."""
    for axis in "mpt":
        function = jax.vmap(function, in_axes=tuple(0 if axis in a else None for a in axes))
    return function


def in_parts(
    function: Callable[[Any], tuple[Any, Any, Any]],
    arguments: PyTree,
    number: int,
    at_once: int,
    axis: int = 0,
) -> tuple[Any, Any, Any]:
    """`function` of `at_once` entries along an axis at a time, to hold no more in memory.

    Args:
        function: of a tree like `arguments`, to `(sum over entries, what is the same for all,
            results along the axis)`.
        arguments: leaves with `number` entries along `axis`.
        number: a multiple of `at_once`.
        at_once: entries that `function` is given.
        axis: 0 or 1.
    """
    if at_once == number:
        return function(arguments)

    def split(leaf):
        shape = (*leaf.shape[:axis], number // at_once, at_once, *leaf.shape[axis + 1 :])
        return jnp.moveaxis(leaf.reshape(shape), axis, 0)

    def join(parts):
        parts = jnp.moveaxis(parts, 0, axis)
        return parts.reshape(*parts.shape[:axis], number, *parts.shape[axis + 2 :])

    sums, same, results = jax.lax.map(function, jax.tree.map(split, arguments))
    return (
        jax.tree.map(lambda x: x.sum(axis=0), sums),
        jax.tree.map(lambda x: x[0], same),
        jax.tree.map(join, results),
    )
