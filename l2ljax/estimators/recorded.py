"""The recorded backward pass: the meta-gradient as a VJP over recorded gradients.

With the optimizee's gradients stopped, theta_t depends on phi only through the sum of the updates
u_0 ... u_{t-1}, and a coordinatewise optimizer computes each coordinate of u_s from that
coordinate's gradients alone. Hence

    dL/dphi = sum_s sum_i A_{s,i} d u_{s,i} / dphi,     A_s = sum_{t > s} w_t nabla f(theta_t):

the optimizer's VJP, run over the gradients that a plain forward rollout records, with suffix sums
of the later gradients as cotangents. It is exact, needs no second pass through the optimizee, runs
over chunks of coordinates that fit the cache, and can visit a random share of the coordinates.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import CoordinateGroup, Key, LearnedOptimizer, MetaParams, Params, PyTree, Task
from l2ljax.unroll import OptimizeeState, loss_and_gradients


def init_group_states(
    optimizer: LearnedOptimizer, meta_params: MetaParams, params: Params
) -> tuple[PyTree, ...]:
    """Fresh optimizer states, one a coordinate group, for params with leading `[num_tasks]`."""
    groups = coordinate_groups(optimizer, params)
    return tuple(
        group.transform(meta_params).init(matrix)
        for group, matrix in zip(groups, to_matrices(groups, params), strict=True)
    )


def recorded_meta_gradient(
    task: Task,
    optimizer: LearnedOptimizer,
    meta_params: MetaParams,
    optimizees: OptimizeeState,
    key: Key,
    weights: jax.Array,
    *,
    restart: jax.Array,
    coordinate_share: float,
    share_key: Key,
    chunk_size: int,
) -> tuple[MetaParams, OptimizeeState, jax.Array]:
    """One window's meta-gradient for a batch of optimizees.

    Args:
        task: the optimizees' task.
        optimizer: a learned optimizer with `coordinate_groups`.
        meta_params: its meta-parameters.
        optimizees: leaves `[num_tasks, ...]`; `opt_state` as `init_group_states` makes it.
        key: for the minibatches.
        weights: `[num_steps]`, w_t of the window's steps.
        restart: bool scalar; start from fresh optimizer states instead of the given ones.
        coordinate_share: share of the coordinates that the backward pass visits.
        share_key: for the choice of those.
        chunk_size: coordinates that the backward pass handles at once.

    Returns:
        the meta-gradient of the mean over tasks of sum_t w_t f(theta_t), the optimizees after the
        window, and float32 losses `[num_tasks, num_steps + 1]`.
    """
    num_steps = weights.shape[0]
    num_tasks = jax.tree.leaves(optimizees.params)[0].shape[0]
    groups = coordinate_groups(optimizer, optimizees.params)
    transforms = [group.transform(meta_params) for group in groups]
    fresh = init_group_states(optimizer, meta_params, optimizees.params)
    start_states = jax.tree.map(lambda a, b: jnp.where(restart, a, b), fresh, optimizees.opt_state)
    samples = [
        sample_coordinates(jax.random.fold_in(share_key, i), matrix.size, coordinate_share)
        for i, matrix in enumerate(to_matrices(groups, optimizees.params))
    ]

    def record(gradients: Params) -> list[jax.Array]:
        return [
            matrix.reshape(-1)[chosen]
            for matrix, (chosen, _) in zip(to_matrices(groups, gradients), samples, strict=True)
        ]

    def loss_and_grads(params, keys):
        def one(instance, params, key):
            batch = task.batch(task.data, instance, key)
            return loss_and_gradients(task, params, batch)

        return jax.vmap(one)(optimizees.instance, params, keys)

    def inner_step(carry, keys):
        params, states = carry
        losses, gradients = loss_and_grads(params, keys)
        stepped = [
            tx.update(matrix, state)
            for tx, matrix, state in zip(
                transforms, to_matrices(groups, gradients), states, strict=True
            )
        ]
        updates = from_matrices(groups, [update for update, _ in stepped], like=gradients)
        params = optax.apply_updates(params, updates)
        return (params, tuple(state for _, state in stepped)), (losses, record(gradients))

    task_keys = jax.random.split(key, num_tasks)
    keys = jax.vmap(lambda k: jax.random.split(k, num_steps + 1), out_axes=1)(task_keys)
    (params, states), (losses, recorded) = jax.lax.scan(
        inner_step, (optimizees.params, start_states), keys[:-1]
    )
    last_losses, last_gradients = loss_and_grads(params, keys[-1])
    losses = jnp.concatenate([losses, last_losses[None]]).astype(jnp.float32).T

    meta_grads = jax.tree.map(jnp.zeros_like, meta_params)
    for group, tx, start, gradients, last, (chosen, share_weights) in zip(
        groups, transforms, start_states, recorded, record(last_gradients), samples, strict=True
    ):
        later = jnp.concatenate([gradients[1:], last[None]])
        suffix_sums = jnp.cumsum((later * weights[:, None])[::-1], axis=0)[::-1]
        start = optax.tree.map_params(
            tx, lambda leaf, c=chosen: leaf.reshape(*leaf.shape[:-2], -1)[..., c], start
        )
        group_grads = _vjp_over_chunks(
            group,
            meta_params,
            start,
            restart,
            gradients,
            suffix_sums * (share_weights / num_tasks),
            chunk_size,
        )
        meta_grads = jax.tree.map(jnp.add, meta_grads, group_grads)
    return meta_grads, OptimizeeState(optimizees.instance, params, states), losses


def _vjp_over_chunks(
    group: CoordinateGroup,
    meta_params: MetaParams,
    start: PyTree,
    restart: jax.Array,
    gradients: jax.Array,
    cotangents: jax.Array,
    chunk_size: int,
) -> MetaParams:
    """sum_{s, i} cotangents[s, i] * d u_{s,i} / dphi; arrays are `[num_steps, num_coordinates]`."""
    num_coordinates = gradients.shape[1]
    num_chunks = max(1, -(-num_coordinates // chunk_size))
    size = -(-num_coordinates // num_chunks)

    def pad(leaf):
        # Extra coordinates see zero gradients and have zero cotangents: they add nothing.
        return jnp.pad(
            leaf, [(0, 0)] * (leaf.ndim - 1) + [(0, num_chunks * size - num_coordinates)]
        )

    tx = group.transform(meta_params)
    start = optax.tree.map_params(tx, pad, start)
    gradients, cotangents = pad(gradients), pad(cotangents)

    def objective(meta_params, start, gradients, cotangents):
        tx = group.transform(meta_params)
        start = jax.tree.map(
            lambda fresh, given: jnp.where(restart, fresh, given), tx.init(gradients[0]), start
        )

        @jax.checkpoint
        def step(state, inputs):
            gradient, cotangent = inputs
            update, state = tx.update(gradient, state)
            return state, optax.tree.vdot(cotangent, update)

        _, terms = jax.lax.scan(step, start, (gradients, cotangents))
        return jnp.sum(terms)

    def one_chunk(total, index):
        def cut(leaf):
            return jax.lax.dynamic_slice_in_dim(leaf, index * size, size, axis=-1)

        chunk_grads = jax.grad(objective)(
            meta_params, optax.tree.map_params(tx, cut, start), cut(gradients), cut(cotangents)
        )
        return jax.tree.map(jnp.add, total, chunk_grads), None

    zeros = jax.tree.map(jnp.zeros_like, meta_params)
    total, _ = jax.lax.scan(one_chunk, zeros, jnp.arange(num_chunks))
    return total


def sample_coordinates(key: Key, num_coordinates: int, share: float) -> tuple[Any, Any]:
    """A stratified sample: one coordinate from each of `round(share * num_coordinates)` strata.

    Strata are runs of neighbours, so every layer and every optimizee is visited in proportion.

    Returns:
        the chosen positions, int32 `[k]` (`slice(None)` when all are), and float32 weights `[k]`,
        the inverse probabilities that make the sum over the sample unbiased (1.0 when all are).
    """
    count = max(1, round(share * num_coordinates))
    if count >= num_coordinates:
        return slice(None), jnp.float32(1.0)
    edges = jnp.asarray([i * num_coordinates // count for i in range(count + 1)], jnp.int32)
    sizes = jnp.diff(edges)
    return edges[:-1] + jax.random.randint(key, (count,), 0, sizes), sizes.astype(jnp.float32)


def coordinate_groups(optimizer: LearnedOptimizer, params: Params) -> tuple[CoordinateGroup, ...]:
    """The optimizer's groups for `params`, refused with a sentence if it declares none."""
    if optimizer.coordinate_groups is None:
        raise ValueError("The recorded backward pass needs an optimizer with coordinate_groups.")
    return optimizer.coordinate_groups(params)


def to_matrices(groups: tuple[CoordinateGroup, ...], tree: PyTree) -> list[jax.Array]:
    """Leaves `[num_tasks, *shape]` -> one `[num_tasks, coordinates]` a group, dtypes promoted."""
    leaves = jax.tree.leaves(tree)
    return [
        jnp.concatenate([leaves[i].reshape(leaves[i].shape[0], -1) for i in group.leaves], axis=1)
        for group in groups
    ]


def from_matrices(
    groups: tuple[CoordinateGroup, ...], matrices: Sequence[Any], like: PyTree
) -> PyTree:
    """The inverse of `to_matrices`; each leaf takes the shape and dtype of its like."""
    leaves, treedef = jax.tree.flatten(like)
    for group, matrix in zip(groups, matrices, strict=True):
        offset = 0
        for i in group.leaves:
            width = leaves[i][0].size
            piece = jax.lax.slice_in_dim(matrix, offset, offset + width, axis=1)
            leaves[i] = piece.reshape(leaves[i].shape).astype(leaves[i].dtype)
            offset += width
    return treedef.unflatten(leaves)
