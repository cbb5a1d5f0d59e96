"""The rollout of a window that records what its backward pass needs."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import Key, MetaParams, PyTree, Task
from l2ljax.estimators.chunks import plan_chunks, scan_with_snapshots
from l2ljax.estimators.columns import Columns, map_columns, tensor_sizes
from l2ljax.estimators.groups import from_matrices, to_matrices, with_params
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
    parts, num_steps = options.parts, window.weights.shape[0]
    transforms = [group.transform(meta_params) for group in groups]
    matrices = to_matrices(groups, window.optimizees.params)
    widths, sizes = [m.shape[-1] for m in matrices], tensor_sizes(groups, matrices)
    starts = _start_states(groups, transforms, fresh, window, parts)
    samples = _samples(window.share_keys, widths, options)

    def record(matrices: list[jax.Array]) -> list[jax.Array]:
        return [
            take_coordinates(matrix, chosen)
            .reshape(*matrix.shape[:-2], -1)
            .astype(options.record_dtype or matrix.dtype)
            for matrix, (chosen, _) in zip(matrices, samples, strict=True)
        ]

    def loss_and_grads(params, keys):
        def one(instance, params, key):
            batch = task.batch(task.data, instance, key)
            return loss_and_gradients(task, params, batch)

        losses, gradients = jax.vmap(one)(window.optimizees.instance, params, keys)
        return losses, gradients, [parts.own(matrix) for matrix in to_matrices(groups, gradients)]

    def inner_step(carry, keys):
        params, states = carry
        losses, gradients, matrices = loss_and_grads(params, keys)
        stepped = [
            tx.update(matrix, state)
            for tx, matrix, state in zip(transforms, matrices, states, strict=True)
        ]
        updates = [parts.gather(update) for update, _ in stepped]
        params = optax.apply_updates(params, from_matrices(groups, updates, like=gradients))
        return (params, tuple(state for _, state in stepped)), (losses, record(matrices))

    def of_chosen(carry):
        return _states_of(groups, transforms, carry[1], samples)

    step_keys = jax.vmap(lambda k: jax.random.split(k, num_steps + 1), out_axes=1)(window.keys)
    visited = jax.eval_shape(of_chosen, (None, starts))
    plan = plan_chunks(visited, num_steps, *options.of_plan, sizes)
    (params, states), (losses, gradients), snapshots = scan_with_snapshots(
        inner_step,
        (window.optimizees.params, starts),
        step_keys[:-1],
        plan.segment_length,
        of_chosen,
    )
    last_losses, _, last = loss_and_grads(params, step_keys[-1])
    whole = _whole_states(groups, transforms, states, widths, parts)
    losses = jnp.concatenate([losses, last_losses[None]]).astype(jnp.float32).T
    kept = list(snapshots), [weights for _, weights in samples]
    return Recording(params, whole, losses, gradients, record(last), *kept, plan)


def _start_states(groups, transforms, fresh, window: Window, parts: Parts) -> tuple[PyTree, ...]:
    """This device's part of the states before the window's first step."""
    states = jax.tree.map(
        lambda a, b: jnp.where(window.restart, a, b), fresh, window.optimizees.opt_state
    )
    states = with_params(groups, states, window.optimizees.params)
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
