"""Optimizees that diverge: left out of the meta-gradient, and started anew."""

import jax
import jax.numpy as jnp

from l2ljax.base import PyTree


def all_finite(tree: PyTree) -> jax.Array:
    """Bool `[num_tasks]`: for each task, whether its part of every leaf `[num_tasks, ...]` is."""
    leaves = [jnp.isfinite(x).reshape(x.shape[0], -1).all(axis=1) for x in jax.tree.leaves(tree)]
    return jnp.stack(leaves).all(axis=0)


def keep_tasks(fine: jax.Array, tree: PyTree, other: PyTree) -> PyTree:
    """`tree` for the tasks that are `fine`, `[num_tasks]`, else `other`, leaf by leaf.

    Leaves have a leading axis `[num_tasks]`.
    """

    def keep(mine, others):
        return jnp.where(fine.reshape(-1, *[1] * (mine.ndim - 1)), mine, others)

    return jax.tree.map(keep, tree, other)


def select(condition: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    """`yes` where the scalar `condition` holds, else `no`, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def mean_of_finite(values: jax.Array, fine: jax.Array) -> jax.Array:
    """`[num_tasks, ...]` -> `[...]`: the mean over tasks that are `fine`; NaN where none is."""
    kept = keep_tasks(fine, values, jnp.zeros_like(values))
    return kept.sum(axis=0) / fine.sum().astype(values.dtype)


def mean_of_seen(values: jax.Array, fine: jax.Array) -> jax.Array:
    """`[num_tasks, ...]` -> `[...]`: as `mean_of_finite`, each value that is NaN left out, too."""
    seen = keep_tasks(fine, ~jnp.isnan(values), jnp.zeros(values.shape, bool))
    return jnp.where(seen, values, 0).sum(axis=0) / seen.sum(axis=0).astype(values.dtype)


def diverged_at(losses: jax.Array, fine: jax.Array, position: jax.Array) -> jax.Array:
    """The inner step of an episode at which each optimizee diverged.

    Args:
        losses: `[num_tasks, num_steps + 1]`, of a window.
        fine: bool `[num_tasks]`.
        position: int32 scalar or `[num_tasks]`, the window's first step; or `[num_tasks, num_steps
            + 1]`, the step of each loss.

    Returns:
        int32 `[num_tasks]`: the step of the first loss that is not finite, the window's last step
        where only gradients are not, and -1 for a task that is fine.
    """
    bad = ~jnp.isfinite(losses)
    last = losses.shape[1] - 1
    first = jnp.where(bad.any(axis=1), jnp.argmax(bad, axis=1), last)
    if position.ndim == 2:
        step = jnp.take_along_axis(position, first[:, None], axis=1)[:, 0]
    else:
        step = position + first
    return jnp.where(fine, -1, step).astype(jnp.int32)
