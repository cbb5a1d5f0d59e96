"""The rollout of a window that records what its backward pass needs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import Key, MetaParams, PyTree, Task
from l2ljax.estimators.chunks import scan_with_snapshots
from l2ljax.estimators.columns import Columns, Tensors, map_columns, tensor_sizes
from l2ljax.estimators.divergence import select
from l2ljax.estimators.groups import from_matrices, to_matrices, with_params
from l2ljax.estimators.inside import Inside, begun
from l2ljax.estimators.plans import plan_chunks
from l2ljax.estimators.sampling import sample_coordinates, take_coordinates
from l2ljax.estimators.windows import Options, Recording, Window
from l2ljax.parallel.over_devices import Parts
from l2ljax.unrolling.inner_loop import loss_and_gradients


class _Rollout(NamedTuple):
    """What the steps of a window have in common; `samples` are of `_samples`."""

    task: Task
    groups: tuple[Columns, ...]
    transforms: list[optax.GradientTransformation]
    window: Window
    samples: list[Any]
    options: Options

    def look(self, params, instances, keys):
        """Losses, gradients, and those as this device's matrices, at the current parameters."""

        def one(instance, params, key):
            batch = self.task.batch(self.task.data, instance, key)
            return loss_and_gradients(self.task, params, batch)

        losses, gradients = jax.vmap(one)(instances, params, keys)
        matrices = to_matrices(self.groups, gradients)
        return losses, gradients, [self.options.parts.own(matrix) for matrix in matrices]

    def record(self, matrices: list[jax.Array]) -> list[jax.Array]:
        """Of gradients, those of the visited coordinates, tasks and coordinates as one axis."""
        return [
            _visited(matrix, chosen).astype(self.options.record_dtype or matrix.dtype)
            for matrix, (chosen, _) in zip(matrices, self.samples, strict=True)
        ]

    def record_tensors(self, params: PyTree) -> list[jax.Array | None]:
        """Of parameters, those of the visited tensors; `None` for coordinates."""
        matrices = to_matrices(self.groups, params)
        return [
            _visited(matrix, chosen) if isinstance(group, Tensors) else None
            for group, matrix, (chosen, _) in zip(self.groups, matrices, self.samples, strict=True)
        ]

    def restarted(self, inside: Inside, carry, keys, number):
        """The carry with the episodes that begin before this step, and what is seen there."""
        params, states, instances = carry
        restarts, transforms = inside.restarts[number], self.transforms
        new = jax.vmap(lambda key: begun(self.task, key, number))(inside.keys)
        instances, params = select(restarts, new, (instances, params))
        matrices = to_matrices(self.groups, params)
        fresh = tuple(tx.init(matrix) for tx, matrix in zip(transforms, matrices, strict=True))
        fresh = _own_states(self.groups, transforms, fresh, self.options.parts)
        carry = params, select(restarts, fresh, states), instances
        return carry, self.look(params, instances, keys)

    def step(self, carry, inputs):
        """One step of a scan; what it leaves are losses and gradients before a restart, and (the
        last two `None` where none can be) gradients and tensors after it."""
        keys, number = inputs
        inside = self.window.inside
        seen = self.look(carry[0], carry[2], keys)
        losses, before, tensors = seen[0], self.record(seen[2]), None
        after = None
        if inside is not None:
            assert inside.anywhere is not None
            carry, seen = jax.lax.cond(
                inside.anywhere[number],
                lambda: self.restarted(inside, carry, keys, number),
                lambda: (carry, seen),
            )
            after, tensors = self.record(seen[2]), self.record_tensors(carry[0])
        params, states, instances = carry
        _, gradients, matrices = seen
        stepped = [
            tx.update(matrix, state)
            for tx, matrix, state in zip(self.transforms, matrices, states, strict=True)
        ]
        updates = [self.options.parts.gather(update) for update, _ in stepped]
        moves = from_matrices(self.groups, updates, like=gradients)
        states = tuple(state for _, state in stepped)
        carry = optax.apply_updates(params, moves), states, instances
        return carry, (losses, before, after, tensors)


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
    rollout = _Rollout(task, groups, transforms, window, samples, options)

    def of_chosen(carry):
        return _states_of(groups, transforms, carry[1], samples)

    step_keys = jax.vmap(lambda k: jax.random.split(k, num_steps + 1), out_axes=1)(window.keys)
    instances, params, _ = window.optimizees
    carry = params, starts, instances
    plan = plan_chunks(
        jax.eval_shape(of_chosen, carry), num_steps, *options.of_plan, tensor_sizes=sizes
    )
    (params, states, instances), (losses, before, after, tensors), snapshots = scan_with_snapshots(
        rollout.step,
        carry,
        (step_keys[:-1], jnp.arange(num_steps)),
        plan.segment_length,
        of_chosen,
    )
    last_losses, _, last = rollout.look(params, instances, step_keys[-1])
    return Recording(
        instance=instances,
        params=params,
        states=_whole_states(groups, transforms, states, widths, parts),
        losses=jnp.concatenate([losses, last_losses[None]]).astype(jnp.float32).T,
        gradients=before if after is None else after,
        before=before,
        begun=tensors or [None] * len(groups),
        last=rollout.record(last),
        snapshots=list(snapshots),
        share_weights=[weights for _, weights in samples],
        plan=plan,
    )


def _visited(matrix: jax.Array, chosen: Any) -> jax.Array:
    return take_coordinates(matrix, chosen).reshape(*matrix.shape[:-2], -1)


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
            lambda leaf, c=chosen: _visited(leaf, c),
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
