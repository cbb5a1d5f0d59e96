"""The rollout of a window that records what its backward pass needs."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import Key, MetaParams, PyTree, Task
from l2ljax.estimators.chunks import plan_chunks, scan_with_snapshots
from l2ljax.estimators.columns import Columns, Tensors, map_columns, tensor_sizes
from l2ljax.estimators.divergence import select
from l2ljax.estimators.groups import from_matrices, to_matrices, with_params
from l2ljax.estimators.inside import begun
from l2ljax.estimators.sampling import sample_coordinates, take_coordinates
from l2ljax.estimators.windows import Options, Recording, Window
from l2ljax.parallel.over_devices import Parts
from l2ljax.unrolling.inner_loop import loss_and_gradients


def record_window(
    task: Task,
    groups: tuple[Columns, ...],
    meta_params: MetaParams,
    window: Window,
    fresh: tuple[PyTree, ...],
    options: Options,
) -> Recording:
    """Runs the window forward and keeps what the backward pass needs."""
    parts, num_steps, inside = options.parts, window.weights.shape[0], window.inside
    transforms = [group.transform(meta_params) for group in groups]
    matrices = to_matrices(groups, window.optimizees.params)
    widths, sizes = [m.shape[-1] for m in matrices], tensor_sizes(groups, matrices)
    starts = _start_states(groups, transforms, fresh, window, parts)
    samples = _samples(window.share_keys, widths, options)

    def visited(matrix: jax.Array, chosen: Any) -> jax.Array:
        return take_coordinates(matrix, chosen).reshape(*matrix.shape[:-2], -1)

    def record(matrices: list[jax.Array]) -> list[jax.Array]:
        return [
            visited(matrix, chosen).astype(options.record_dtype or matrix.dtype)
            for matrix, (chosen, _) in zip(matrices, samples, strict=True)
        ]

    def record_begun(params: PyTree) -> list[jax.Array | None]:
        return [
            visited(matrix, chosen) if isinstance(group, Tensors) else None
            for group, matrix, (chosen, _) in zip(
                groups, to_matrices(groups, params), samples, strict=True
            )
        ]

    def look(params, instances, keys):
        def one(instance, params, key):
            batch = task.batch(task.data, instance, key)
            return loss_and_gradients(task, params, batch)

        losses, gradients = jax.vmap(one)(instances, params, keys)
        return losses, gradients, [parts.own(matrix) for matrix in to_matrices(groups, gradients)]

    def restarted(carry, keys, number):
        """The carry where episodes begin before this step, and what is seen there."""
        params, _, instances = carry
        new = jax.vmap(lambda key: begun(task, key, number))(inside.keys)
        instances, params = select(inside.restarts[number], new, (instances, params))
        anew = [tx.init(m) for tx, m in zip(transforms, to_matrices(groups, params), strict=True)]
        anew = _own_states(groups, transforms, anew, parts)
        states = select(inside.restarts[number], anew, carry[1])
        return (params, states, instances), look(params, instances, keys)

    def inner_step(carry, inputs):
        keys, number = inputs
        seen = look(carry[0], carry[2], keys)
        before = (seen[0], None if inside is None else record(seen[2]))
        if inside is not None:
            carry, seen = jax.lax.cond(
                inside.anywhere[number],
                lambda: restarted(carry, keys, number),
                lambda: (carry, seen),
            )
        (params, states, instances), (_, gradients, matrices) = carry, seen
        losses, ended = before
        found = (losses, record(matrices), ended, None if inside is None else record_begun(params))
        stepped = [
            tx.update(matrix, state)
            for tx, matrix, state in zip(transforms, matrices, states, strict=True)
        ]
        updates = [parts.gather(update) for update, _ in stepped]
        params = optax.apply_updates(params, from_matrices(groups, updates, like=gradients))
        return (params, tuple(state for _, state in stepped), instances), found

    def of_chosen(carry):
        return _states_of(groups, transforms, carry[1], samples)

    step_keys = jax.vmap(lambda k: jax.random.split(k, num_steps + 1), out_axes=1)(window.keys)
    plan = plan_chunks(
        jax.eval_shape(of_chosen, (None, starts)), num_steps, *options.of_plan, sizes
    )
    instances, params, _ = window.optimizees
    (params, states, instances), found, snapshots = scan_with_snapshots(
        inner_step,
        (params, starts, instances),
        (step_keys[:-1], jnp.arange(num_steps)),
        plan.segment_length,
        of_chosen,
    )
    losses, gradients, ended, first = found
    last_losses, _, last = look(params, instances, step_keys[-1])
    whole = _whole_states(groups, transforms, states, widths, parts)
    losses = jnp.concatenate([losses, last_losses[None]]).astype(jnp.float32).T
    kept = list(snapshots), [weights for _, weights in samples]
    if inside is None:
        ended, first = gradients, [None] * len(groups)
    records = gradients, ended, first, record(last)
    return Recording(instances, params, whole, losses, *records, *kept, plan)


def _start_states(groups, transforms, fresh, window: Window, parts: Parts) -> tuple[PyTree, ...]:
    """This device's part of the states before the window's first step."""
    states = jax.tree.map(
        lambda a, b: jnp.where(window.restart, a, b), fresh, window.optimizees.opt_state
    )
    states = with_params(groups, states, window.optimizees.params)
    return _own_states(groups, transforms, states, parts)


def _own_states(groups, transforms, states, parts: Parts) -> tuple[PyTree, ...]:
    """This device's part of whole states."""
    return tuple(
        map_columns(group, tx, parts.own, state)
        for group, tx, state in zip(groups, transforms, states, strict=True)
    )


def _samples(share_keys: Key, widths: list[int], options: Options) -> list[Any]:
    """For each group: positions that are visited (`None` for all), and their weights."""
    parts = options.parts
    return [
        sample_coordinates(
            jax.vmap(lambda k, i=i: parts.own_key(jax.random.fold_in(k, i)))(share_keys),
            parts.size(width),
            options.coordinate_share,
        )
        for i, width in enumerate(widths)
    ]


def _states_of(groups, transforms, states, samples) -> tuple[PyTree, ...]:
    """The states of the chosen coordinates, tasks and coordinates as one last axis."""
    return tuple(
        map_columns(
            group,
            tx,
            lambda leaf, c=chosen: take_coordinates(leaf, c).reshape(*leaf.shape[:-2], -1),
            state,
        )
        for group, tx, state, (chosen, _) in zip(groups, transforms, states, samples, strict=True)
    )


def _whole_states(groups, transforms, states, widths, parts: Parts) -> tuple[PyTree, ...]:
    """Whole states between windows: then a run may go on with another number of parts."""
    return tuple(
        map_columns(group, tx, lambda leaf, n=width: parts.gather(leaf)[..., :n], state)
        for group, tx, state, width in zip(groups, transforms, states, widths, strict=True)
    )
