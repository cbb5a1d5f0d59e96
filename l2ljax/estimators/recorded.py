"""The recorded backward pass: the meta-gradient as a VJP over recorded gradients.

With the optimizee's gradients stopped, theta_t depends on phi only through the sum of the updates
u_0 ... u_{t-1}, and a coordinatewise optimizer computes each coordinate of u_s from that
coordinate's gradients alone. Hence

    dL/dphi = sum_s sum_i A_{s,i} d u_{s,i} / dphi,     A_s = sum_{t > s} w_t nabla f(theta_t):

the optimizer's VJP, run over the gradients that a plain forward rollout records, with suffix sums
of the later gradients as cotangents. It is exact, needs no second pass through the optimizee, runs
over chunks of coordinates that fit the cache, and can visit a random share of the coordinates.

A rule whose *tensors* are alone is served in chunks of whole tensors. It may read the tensor's
parameters: theta_{s+1} = theta_s + u_s is then one more part of the state that the VJP goes back
through, and u_s still depends on that tensor's recorded gradients and phi, and on nothing else.
"""

import jax
import jax.numpy as jnp

from l2ljax.base import LearnedOptimizer, MetaParams, Task
from l2ljax.estimators.chunks import vjp_over_chunks
from l2ljax.estimators.columns import Columns, Tensors
from l2ljax.estimators.divergence import all_finite
from l2ljax.estimators.groups import (
    coordinate_groups,
    init_group_states,
    keep_group_states,
    to_matrices,
)
from l2ljax.estimators.inside import Inside, later_any, later_sums
from l2ljax.estimators.recording import record_window
from l2ljax.estimators.windows import WHOLE, Options, Recording, Window
from l2ljax.parallel import Parts
from l2ljax.unrolling import OptimizeeState


def recorded_meta_gradient(
    task: Task,
    optimizer: LearnedOptimizer,
    meta_params: MetaParams,
    window: Window,
    options: Options = WHOLE,
) -> tuple[MetaParams, OptimizeeState, jax.Array, jax.Array]:
    """One window's meta-gradient for a batch of optimizees.

    Args:
        task: the optimizees' task.
        optimizer: a learned optimizer with `coordinate_groups` or `tensor_groups`.
        meta_params: its meta-parameters.
        window: what it starts from.
        options: how the backward pass goes.

    Returns:
        the meta-gradient of the mean over tasks of sum_t w_t f(theta_t), to which diverged tasks
        add 0; the optimizees after the window, whose optimizer states are fresh where the task
        diverged (but for what all tasks share, see `keep_group_states`); float32 losses
        `[num_tasks, num_steps + 1]`; and bool `[num_tasks]`, which tasks did not diverge.
    """
    groups = coordinate_groups(optimizer, window.optimizees.params)
    fresh = init_group_states(optimizer, meta_params, window.optimizees.params)
    recording = record_window(task, groups, meta_params, window, fresh, options)
    fine = _which_are_fine(groups, recording, window.inside, options.parts)
    meta_grads, fine = _pull_back(groups, meta_params, window, recording, fine, options.parts)
    states = keep_group_states(groups, meta_params, fine, recording.states, fresh)
    optimizees = OptimizeeState(recording.instance, recording.params, states)
    return options.parts.sum(meta_grads), optimizees, recording.losses, fine


def _which_are_fine(
    groups: tuple[Columns, ...], recording: Recording, inside: Inside | None, parts: Parts
) -> jax.Array:
    """Bool `[num_tasks]`: tasks whose losses, parameters and cotangents are finite.

    A gradient that is not finite makes the cotangents of all earlier updates of its coordinate so.
    That is no harm where those updates are constants: where the gradients before it were not finite
    either, and the rule did not hand that on to the parameters (`nonfinite="skip"`).
    """
    num_tasks = recording.losses.shape[0]
    fine = all_finite((recording.losses, recording.params))
    restarts = None if inside is None else inside.restarts
    for i, group in enumerate(groups):
        if isinstance(group, Tensors):
            continue  # what meets in a tensor is told by its derivatives alone, see `_pull_back`
        bad = ~jnp.isfinite(_later(recording.before[i], recording.last[i]))
        harmed = (jnp.isfinite(recording.gradients[i]) & later_any(bad, restarts)).any(axis=0)
        fine &= parts.sum(harmed.reshape(num_tasks, -1).any(axis=1).astype(jnp.int32)) == 0
    return fine


def _pull_back(
    groups: tuple[Columns, ...],
    meta_params: MetaParams,
    window: Window,
    recording: Recording,
    fine: jax.Array,
    parts: Parts,
) -> tuple[MetaParams, jax.Array]:
    """The sum of the fine tasks' meta-gradients, and which tasks those are.

    Where the sum is not finite although all its numbers are (a derivative at a singular point), the
    tasks are visited one by one, and those to blame left out, as step-by-step differentiation does.
    Devices that share coordinates leave that out: the whole sum is then not finite.
    """
    num_tasks = fine.shape[0]
    zeros = jax.tree.map(jnp.zeros_like, meta_params)

    def of_tasks(visit):
        total = zeros
        for i, group in enumerate(groups):
            grads = _of_group(group, i, meta_params, window, recording, visit)
            total = jax.tree.map(jnp.add, total, grads)
        return total

    if parts.number > 1:
        return of_tasks(fine), fine

    def another(state):
        task, _, _, stop = state
        return (task < num_tasks) & ~stop

    def visit(state):
        task, total, fine, _ = state
        every, one = task < 0, jnp.arange(num_tasks) == task
        grads = of_tasks(jnp.where(every, fine, one & fine))
        good = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads)]).all()
        total = jax.tree.map(lambda t, g: jnp.where(good, t + g, t), total, grads)
        return task + 1, total, fine & (every | good | ~one), every & good

    start = (jnp.full([], -1, jnp.int32), zeros, fine, jnp.zeros([], bool))
    if not jax.tree.leaves(meta_params):
        return zeros, fine
    _, total, fine, _ = jax.lax.while_loop(another, visit, start)
    return total, fine


def _of_group(group, i, meta_params, window, recording, visit):
    """One group's part of the meta-gradient, from the tasks in `visit`, bool `[num_tasks]`."""
    share_weights = recording.share_weights[i].reshape(-1) / visit.shape[0]
    restarts = None if window.inside is None else window.inside.restarts

    def cotangents(cut):
        later = _later(cut(recording.before[i]), cut(recording.last[i]))
        later = later * jnp.expand_dims(window.weights, range(1, later.ndim))
        sums = later_sums(later, restarts) * cut(share_weights)
        if isinstance(group, Tensors):
            return sums
        # Not finite only where the update is a constant, see `_which_are_fine`.
        return jnp.where(jnp.isfinite(sums), sums, 0)

    given = jax.eval_shape(lambda p: to_matrices((group,), p), window.optimizees.params)
    return vjp_over_chunks(
        group,
        meta_params,
        recording.snapshots[i],
        window.restart,
        recording.gradients[i],
        cotangents,
        dtype=given[0].dtype,
        inside=None if restarts is None else (restarts, recording.begun[i]),
        visit=visit,
        segment_length=recording.plan.segment_length,
        chunk_size=recording.plan.chunk_sizes[i],
        remat=recording.plan.remats[i],
    )


def _later(before: jax.Array, last: jax.Array) -> jax.Array:
    """What each step led to: the gradients before the next step, or at the window's end."""
    return jnp.concatenate([before[1:], last[None]])
