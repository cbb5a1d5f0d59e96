"""A coordinatewise step over a tree of parameters: leaf by leaf, and in each block by block."""

from typing import Any

import jax
import jax.numpy as jnp

from l2ljax.base import PyTree
from l2ljax.optimizers.blocks import Step, in_blocks


def step_leaves(
    step: Step, carry: PyTree, one: PyTree, updates: PyTree, block_size: int | None
) -> tuple[PyTree, PyTree]:
    """`step` for every leaf of `updates`, with its part of `carry`.

    Args:
        step: as `in_blocks` takes it.
        carry: the structure of `one`, with a tree like `updates` for each of its leaves; `[...,
            *leaf.shape]` inside.
        one: what `step` carries for one coordinate; only its structure is read, unless `carry` has
            no leaves at all.
        updates: the gradients.
        block_size: as `in_blocks` takes it.

    Returns:
        `(outputs, next_carry)`: each output in its gradient's dtype.

    Example:
        >>> carry, gradients = {"sum": {"w": jnp.zeros(2)}}, {"w": jnp.ones(2)}
        >>> step = lambda carry, g: ({"sum": carry["sum"] + g}, 3 * g)
        >>> outputs, carry = step_leaves(step, carry, {"sum": 0.0}, gradients, None)
        >>> outputs["w"].tolist(), carry["sum"]["w"].tolist()
        ([3.0, 3.0], [1.0, 1.0])
    """
    gradients, treedef = jax.tree.flatten(updates)
    one_def = jax.tree.structure(one)
    trees = one_def.flatten_up_to(carry)
    carries = [
        one_def.unflatten(leaves) for leaves in zip(*map(jax.tree.leaves, trees), strict=True)
    ] or [one] * len(gradients)
    stepped: list[Any] = [
        in_blocks(step, carry, jnp.asarray(gradient), block_size)
        for carry, gradient in zip(carries, gradients, strict=True)
    ]
    outputs = [
        output.astype(jnp.result_type(gradient))  # a Python float has no dtype
        for (_, output), gradient in zip(stepped, gradients, strict=True)
    ]
    next_leaves = zip(*(jax.tree.leaves(carry) for carry, _ in stepped), strict=True)
    # Each tree in its own boxes, if any: their names of axes are not the gradients'.
    next_carry = jax.tree.unflatten(
        jax.tree.structure(carry), [leaf for tree in next_leaves for leaf in tree]
    )
    return treedef.unflatten(outputs), next_carry
