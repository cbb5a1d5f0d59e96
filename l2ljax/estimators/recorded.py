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
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec as P

from l2ljax.base import CoordinateGroup, Key, LearnedOptimizer, MetaParams, Params, PyTree, Task
from l2ljax.estimators.chunks import plan_chunks, scan_with_snapshots, vjp_over_chunks
from l2ljax.estimators.divergence import all_finite
from l2ljax.parallel import ONE_PART, TASKS, Parts
from l2ljax.remat import Remat
from l2ljax.unrolling import OptimizeeState, loss_and_gradients


def init_group_states(
    optimizer: LearnedOptimizer, meta_params: MetaParams, params: Params
) -> tuple[PyTree, ...]:
    """Fresh optimizer states, one a coordinate group, for params with leading `[num_tasks]`."""
    groups = coordinate_groups(optimizer, params)
    return tuple(
        group.transform(meta_params).init(matrix)
        for group, matrix in zip(groups, to_matrices(groups, params), strict=True)
    )


def group_state_specs(
    optimizer: LearnedOptimizer, meta_params: MetaParams, params: Params
) -> tuple[PyTree, ...]:
    """How `init_group_states` splits over devices: the task axis of coordinates' state, no other.

    `params` may be shapes. What is no coordinate's is the same for all tasks.
    """
    groups = coordinate_groups(optimizer, params)
    states = jax.eval_shape(lambda m, p: init_group_states(optimizer, m, p), meta_params, params)
    return tuple(
        optax.tree.map_params(
            group.transform(meta_params),
            lambda leaf: P(*[None] * (leaf.ndim - 2), TASKS),
            state,
            transform_non_params=lambda leaf: P(),
        )
        for group, state in zip(groups, states, strict=True)
    )


def recorded_meta_gradient(
    task: Task,
    optimizer: LearnedOptimizer,
    meta_params: MetaParams,
    optimizees: OptimizeeState,
    keys: Key,
    weights: jax.Array,
    *,
    restart: jax.Array,
    coordinate_share: float,
    share_keys: Key,
    chunk_size: int | None,
    remat: Remat | Literal["auto"],
    record_dtype: jax.typing.DTypeLike | None = None,
    parts: Parts = ONE_PART,
) -> tuple[MetaParams, OptimizeeState, jax.Array, jax.Array]:
    """One window's meta-gradient for a batch of optimizees.

    Args:
        task: the optimizees' task.
        optimizer: a learned optimizer with `coordinate_groups`.
        meta_params: its meta-parameters.
        optimizees: leaves `[num_tasks, ...]`; `opt_state` as `init_group_states` makes it.
        keys: `[num_tasks]`, for the minibatches.
        weights: `[num_steps]`, w_t of the window's steps.
        restart: bool scalar; start from fresh optimizer states instead of the given ones.
        coordinate_share: share of the coordinates that the backward pass visits.
        share_keys: `[num_tasks]`, for the choice of those.
        chunk_size: coordinates that the backward pass handles at once, or `None`.
        remat: what the backward pass over a chunk keeps, see `l2ljax.remat`, or "auto"; both are
            chosen by `plan_chunks` where they are left open.
        record_dtype: of the recorded gradients; `None`: their own.
        parts: of the coordinates, where several devices run the same optimizees.

    Returns:
        the meta-gradient of the mean over tasks of sum_t w_t f(theta_t), to which diverged tasks
        add 0; the optimizees after the window, whose optimizer states are fresh where the task
        diverged; float32 losses `[num_tasks, num_steps + 1]`; and bool `[num_tasks]`, which tasks
        did not diverge.
    """
    num_steps = weights.shape[0]
    groups = coordinate_groups(optimizer, optimizees.params)
    transforms = [group.transform(meta_params) for group in groups]
    widths = [matrix.shape[1] for matrix in to_matrices(groups, optimizees.params)]
    fresh = init_group_states(optimizer, meta_params, optimizees.params)
    start_states = jax.tree.map(lambda a, b: jnp.where(restart, a, b), fresh, optimizees.opt_state)
    start_states = tuple(
        optax.tree.map_params(tx, parts.own, state)
        for tx, state in zip(transforms, start_states, strict=True)
    )
    samples = [
        sample_coordinates(
            jax.vmap(lambda k, i=i: parts.own_key(jax.random.fold_in(k, i)))(share_keys),
            parts.size(width),
            coordinate_share,
        )
        for i, width in enumerate(widths)
    ]

    def own_gradients(gradients: Params) -> list[jax.Array]:
        return [parts.own(matrix) for matrix in to_matrices(groups, gradients)]

    def record(matrices: list[jax.Array]) -> list[jax.Array]:
        return [
            take_coordinates(matrix, chosen).reshape(-1).astype(record_dtype or matrix.dtype)
            for matrix, (chosen, _) in zip(matrices, samples, strict=True)
        ]

    def loss_and_grads(params, keys):
        def one(instance, params, key):
            batch = task.batch(task.data, instance, key)
            return loss_and_gradients(task, params, batch)

        return jax.vmap(one)(optimizees.instance, params, keys)

    def inner_step(carry, keys):
        params, states = carry
        losses, gradients = loss_and_grads(params, keys)
        matrices = own_gradients(gradients)
        stepped = [
            tx.update(matrix, state)
            for tx, matrix, state in zip(transforms, matrices, states, strict=True)
        ]
        updates = [parts.gather(update) for update, _ in stepped]
        params = optax.apply_updates(params, from_matrices(groups, updates, like=gradients))
        return (params, tuple(state for _, state in stepped)), (losses, record(matrices))

    step_keys = jax.vmap(lambda k: jax.random.split(k, num_steps + 1), out_axes=1)(keys)

    def of_chosen(carry):
        return tuple(
            optax.tree.map_params(
                tx,
                lambda leaf, c=chosen: take_coordinates(leaf, c).reshape(*leaf.shape[:-2], -1),
                state,
            )
            for tx, state, (chosen, _) in zip(transforms, carry[1], samples, strict=True)
        )

    visited = jax.eval_shape(of_chosen, (None, start_states))
    plan = plan_chunks(visited, num_steps, chunk_size, remat, parts.number)
    (params, states), (losses, recorded), snapshots = scan_with_snapshots(
        inner_step,
        (optimizees.params, start_states),
        step_keys[:-1],
        plan.segment_length,
        of_chosen,
    )
    last_losses, last_gradients = loss_and_grads(params, step_keys[-1])
    losses = jnp.concatenate([losses, last_losses[None]]).astype(jnp.float32).T

    last = record(own_gradients(last_gradients))
    fine = all_finite(losses)
    for matrices in zip(recorded, last, strict=True):
        by_task = [
            jnp.moveaxis(x.reshape(*x.shape[:-1], keys.shape[0], -1), -2, 0) for x in matrices
        ]
        fine &= parts.sum((~all_finite(by_task)).astype(jnp.int32)) == 0
    meta_grads = jax.tree.map(jnp.zeros_like, meta_params)
    for i, (group, kept, gradients, after, (_, share_weights)) in enumerate(
        zip(groups, snapshots, recorded, last, samples, strict=True)
    ):
        share_weights = share_weights.reshape(-1) / keys.shape[0]

        def cotangents(cut, gradients=gradients, after=after, share_weights=share_weights):
            later = jnp.concatenate([cut(gradients)[1:], cut(after)[None]]) * weights[:, None]
            return jax.lax.cumsum(later, axis=0, reverse=True) * cut(share_weights)

        group_grads = vjp_over_chunks(
            group,
            meta_params,
            kept,
            restart,
            gradients,
            cotangents,
            visit=jnp.repeat(fine, gradients.shape[1] // keys.shape[0]),
            segment_length=plan.segment_length,
            chunk_size=plan.chunk_sizes[i],
            remat=plan.remats[i],
        )
        meta_grads = jax.tree.map(jnp.add, meta_grads, group_grads)
    # Whole states between windows: then a run may go on with another number of parts.
    states = tuple(
        optax.tree.map_params(tx, lambda leaf, n=width: parts.gather(leaf)[..., :n], state)
        for tx, state, width in zip(transforms, states, widths, strict=True)
    )
    states = tuple(
        _keep_states(tx, fine, state, new)
        for tx, state, new in zip(transforms, states, fresh, strict=True)
    )
    optimizees = OptimizeeState(optimizees.instance, params, states)
    return parts.sum(meta_grads), optimizees, losses, fine


def _keep_states(
    tx: optax.GradientTransformation, fine: jax.Array, states: PyTree, fresh: PyTree
) -> PyTree:
    """`states` of the tasks that are `fine`, else `fresh`; what is no coordinate's is kept."""
    of_coordinates = optax.tree.map_params(
        tx, lambda leaf: True, states, transform_non_params=lambda leaf: False
    )

    def keep(of_coordinate, state, new):
        return jnp.where(fine[:, None], state, new) if of_coordinate else state

    return jax.tree.map(keep, of_coordinates, states, fresh)


def sample_coordinates(
    keys: Key, num_coordinates: int, share: float
) -> tuple[jax.Array | None, jax.Array]:
    """A stratified sample for each task: one coordinate from each of `round(share * n)` strata.

    Strata are runs of neighbours, so every layer is visited in proportion.

    Returns:
        the chosen positions, int32 `[num_tasks, k]` (`None` when all are), and their float32
        weights `[num_tasks, k]`, the inverse probabilities that make the sum over the sample
        unbiased (1 when all are chosen).
    """
    count = max(1, round(share * num_coordinates))
    if count >= num_coordinates:
        return None, jnp.ones((keys.shape[0], num_coordinates), jnp.float32)
    edges = jnp.asarray([i * num_coordinates // count for i in range(count + 1)], jnp.int32)
    sizes = jnp.diff(edges)

    def draw(key):
        return edges[:-1] + jax.random.randint(key, (count,), 0, sizes)

    return jax.vmap(draw)(keys), jnp.tile(sizes.astype(jnp.float32), (keys.shape[0], 1))


def take_coordinates(leaf: jax.Array, chosen: jax.Array | None) -> jax.Array:
    """`[..., num_tasks, n]` -> `[..., num_tasks, k]`, at positions `chosen` `[num_tasks, k]`."""
    if chosen is None:
        return leaf
    return jnp.take_along_axis(leaf, jnp.expand_dims(chosen, range(leaf.ndim - 2)), axis=-1)


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
