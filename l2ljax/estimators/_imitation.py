"""Imitation: a learned optimizer is shown the updates of a tuned one.

Chen et al. (2020), arXiv:2010.09089, section 3.3: beside its meta-loss a learned optimizer is
trained to come where an analytical one does. Both are given the same gradients g_1 ... g_t, and the
loss of a window is the squared distance of their updates u_t and v_t relative to the teacher's,

    sum_t w_t |u_t - v_t|^2 / mean_t |v_t|^2.

It is differentiated through the optimizer's own state alone, so it does not explode with the
horizon.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from l2ljax.base import LearnedOptimizer, Task
from l2ljax.checks import (
    check_choice,
    check_kind,
    check_optimizer,
    check_positive_int,
    check_task,
    check_transform,
)
from l2ljax.estimators.divergence import all_finite, keep_tasks, select
from l2ljax.estimators.episodes import whole_windows
from l2ljax.estimators.staggered import Staggered
from l2ljax.estimators.weights import Weights, step_weights
from l2ljax.estimators.windows import Window
from l2ljax.parallel import check_mesh, place_data
from l2ljax.specification import call_with
from l2ljax.unrolling import OptimizeeState
from l2ljax.unrolling.inner_loop import draw_batch, scalar_loss, step_of_task
from l2ljax.unrolling.remat import checkpointed_scan


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Imitation(Staggered):
    """See `imitation`, which checks these fields and fills them in."""

    teacher: optax.GradientTransformationExtraArgs = dataclasses.field(metadata={"static": True})
    follow: Literal["teacher", "learner"] = dataclasses.field(metadata={"static": True})

    def _init_opt_state(self, meta_params, params):
        learner = self.optimizer.transform(meta_params)
        return tuple(jax.vmap(tx.init)(params) for tx in (learner, self.teacher))

    def _alone(self, task, meta_params, window: Window, copies):
        def of_one(optimizee, key):
            distance = jax.grad(self._distance, argnums=1, has_aux=True)
            return distance(task, meta_params, optimizee, key, window)

        grads, (after, losses, values) = jax.vmap(of_one)(window.optimizees, window.keys)
        fine = all_finite((losses, values, grads))
        grads = keep_tasks(fine, grads, jax.tree.map(jnp.zeros_like, grads))
        return jax.tree.map(lambda g: g.mean(axis=0), grads), after, losses, values, fine

    def _distance(self, task, meta_params, optimizee, key, window):
        """`(loss, (optimizee after the window, losses, loss))` of one task."""
        learner = optax.with_extra_args_support(self.optimizer.transform(meta_params))
        instance, params, opt_states = optimizee
        fresh = learner.init(params), self.teacher.init(params)
        states = select(window.restart, fresh, opt_states)
        keys = jax.random.split(key, self.unroll_length + 1)

        def inner_step(carry, key):
            (instance, params, states), batch = carry, draw_batch(task, carry[0], key)
            seen = step_of_task(task, params, batch)
            loss, gradients, task_state = jax.lax.stop_gradient(seen)
            extra = {
                "value": loss,
                "grad": gradients,
                "value_fn": lambda p: scalar_loss(task, p, batch),
            }
            own, state = learner.update(gradients, states[0], params, **extra)
            shown, teacher_state = self.teacher.update(gradients, states[1], params, **extra)
            apart = _square(jax.tree.map(jnp.subtract, own, shown))
            taken = shown if self.follow == "teacher" else own
            params = jax.lax.stop_gradient(optax.apply_updates(params, taken))
            if task_state is not None:
                instance = instance._replace(state=task_state)
            return (instance, params, (state, teacher_state)), (loss, apart, _square(shown))

        carry = (instance, params, states)
        after, (losses, apart, size) = checkpointed_scan(inner_step, carry, keys[:-1], remat="step")
        last = scalar_loss(task, after[1], draw_batch(task, after[0], keys[-1]))
        losses = jnp.append(losses, last).astype(jnp.float32)
        moved, tiny = size.mean(), jnp.finfo(jnp.float32).tiny
        # Where the teacher stands still, as between the updates of `optax.MultiSteps`, there is
        # nothing to measure a distance by: no loss.
        value = jnp.where(moved > 0, apart @ window.weights / jnp.maximum(moved, tiny), 0)
        return value, (OptimizeeState(*after), losses, value)


def imitation(
    task: Task,
    optimizer: LearnedOptimizer,
    teacher: optax.GradientTransformation | Mapping[str, Any],
    *,
    num_tasks: int,
    episode_length: int | tuple[int, int],
    unroll_length: int,
    follow: Literal["teacher", "learner"] = "teacher",
    weights: Weights | None = None,
    stagger: bool = False,
    mesh: Mesh | None = None,
    shard_data: bool = False,
) -> Imitation:
    """An estimator whose meta-loss is the distance to a tuned optimizer's updates.

    Alone it makes a learned optimizer that does as the teacher does; in a `mixture` it is the
    auxiliary loss of Chen et al. (2020), and as the first stage of a `curriculum` the start that
    other estimators go on from.

    Args:
        task, optimizer, num_tasks, mesh, shard_data: as `truncated_bptt` takes them; devices along
            an axis "coordinates" all do the same.
        teacher: an Optax transformation with its learning rate, such as `optax.adam(1e-3)`, or
            plain data that names one, such as `{"name": "optax:adam", "learning_rate": 1e-3}`.
        episode_length, unroll_length, stagger: as in `truncated_bptt`; the optimizers' states are
            carried from window to window, their derivative is not.
        follow: whose updates the optimizee makes: the "teacher"'s, which stays on its path, or the
            "learner"'s, which is shown what the teacher would do where it comes itself.
        weights: w_1 ... w_T >= 0 of the updates, as in `truncated_bptt`.

    Returns:
        a `GradientEstimator`. `meta_loss` is the window's weighted distance, of which 1 a step is
        that of making no updates (0 where the teacher makes none); `metrics["losses"]` is
        f(theta_t) on the path that is followed.

    Raises:
        ValueError, TypeError: in one sentence, for arguments that do not fit.

    Example:
        >>> from l2ljax.optimizers import lstm
        >>> from l2ljax.tasks import quadratic
        >>> estimator = imitation(
        ...     quadratic(), lstm((4,)), optax.adam(0.1), num_tasks=2, episode_length=10,
        ...     unroll_length=5,
        ... )
        >>> meta_params = estimator.optimizer.init(jax.random.key(0))
        >>> state = estimator.init(jax.random.key(1), meta_params)
        >>> loss, grads, state, metrics = estimator.estimate(meta_params, state, jax.random.key(2))
        >>> bool(loss > 0), metrics["losses"].shape
        (True, (6,))
    """
    check_task(task)
    check_optimizer("optimizer", optimizer)
    check_positive_int("num_tasks", num_tasks)
    check_positive_int("unroll_length", unroll_length)
    low, high = whole_windows(episode_length, unroll_length)
    check_kind("stagger", stagger, bool)
    check_choice("follow", follow, ("teacher", "learner"))
    check_mesh(mesh, num_tasks, task.data if shard_data else ())
    if isinstance(teacher, Mapping):
        teacher = call_with({}, teacher, "teacher")
    check_transform("teacher", teacher)
    return Imitation(
        task=dataclasses.replace(task, data=place_data(task.data, mesh, shard=shard_data)),
        optimizer=optimizer,
        teacher=optax.with_extra_args_support(teacher),  # pyright: ignore
        follow=follow,
        num_tasks=num_tasks,
        episode_length=high,
        shortest_episode=low,
        unroll_length=unroll_length,
        weights=step_weights(weights, high),
        stagger=stagger,
        mesh=mesh,
        shard_data=shard_data,
    )


def _square(tree):
    """The sum of squares of all leaves, in float32."""
    leaves = [jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)]
    return jnp.stack(leaves).sum()
