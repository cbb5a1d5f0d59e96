"""Episodes that end inside a window of a differentiated rollout: the next one begins there.

A restart cuts the chain. The losses after it do not depend on the updates before, so that a
window's meta-gradient is the sum of those of its pieces, each an episode's end or beginning. Before
the step at which an episode begins the ended one's last loss is taken, and then the new one's
gradient: two looks, in those steps alone in which any task begins anew.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import Key, PyTree, Task
from l2ljax.estimators.divergence import select
from l2ljax.unrolling import OptimizeeState, sample_optimizee
from l2ljax.unrolling.inner_loop import draw_batch, scalar_loss, step_of_task
from l2ljax.unrolling.remat import Remat, checkpointed_scan


class Inside(NamedTuple):
    """Where episodes begin inside a window.

    Attributes:
        restarts: bool `[num_steps]`, before which steps; the first is False, as an episode that
            begins with the window is none of these.
        anywhere: bool `[num_steps]`, where any of the tasks side by side does; `None` until known.
        keys: `[num_tasks]`, for the new episodes, each folded with the step's number.
    """

    restarts: jax.Array
    anywhere: jax.Array | None
    keys: Key


class Course(NamedTuple):
    """What the steps of a window are in their episodes; leaves are `[num_tasks, num_steps]`.

    Attributes:
        positions: int32, inner steps made after each step, from 1.
        lengths: int32, of those episodes.
        restarts: bool, which steps are the first of an episode that begins inside the window.
    """

    positions: jax.Array
    lengths: jax.Array
    restarts: jax.Array


def course_of(
    position: jax.Array, length: jax.Array, num_steps: int, draw: Callable[[jax.Array], jax.Array]
) -> Course:
    """A window's course from `position` of episodes of `length`, int32 `[num_tasks]`.

    Args:
        position, length: where each task stands, inside its episode.
        num_steps: of the window.
        draw: number of a step -> lengths `[num_tasks]` of episodes that begin there.
    """

    def step(carry, number):
        position, length = carry
        ended = position >= length
        position = jnp.where(ended, 0, position) + 1
        length = jnp.where(ended, draw(number), length)
        return (position, length), Course(position, length, ended)

    _, course = jax.lax.scan(step, (position, length), jnp.arange(num_steps))
    return jax.tree.map(lambda leaf: leaf.T, course)


def later_sums(values: jax.Array, restarts: jax.Array | None) -> jax.Array:
    """Sums over what comes later in the same episode: A_s = v_s + A_{s+1}, or v_s at its end.

    Args:
        values: `[num_steps, ...]`, v_s being of what step s led to.
        restarts: bool `[num_steps]`, see `Inside`; `None` for none.

    Example:
        >>> later_sums(jnp.arange(1.0, 5.0), None).tolist()
        [10.0, 9.0, 7.0, 4.0]
        >>> later_sums(jnp.arange(1.0, 5.0), jnp.array([False, False, True, False])).tolist()
        [3.0, 2.0, 7.0, 4.0]
    """
    if restarts is None:
        return jax.lax.cumsum(values, axis=0, reverse=True)

    def step(later, seen):
        value, ends = seen
        later = value + jnp.where(ends, 0, later)
        return later, later

    ends = jnp.append(restarts[1:], False)
    return jax.lax.scan(step, jnp.zeros_like(values[0]), (values, ends), reverse=True)[1]


def later_any(values: jax.Array, restarts: jax.Array | None) -> jax.Array:
    """Where any of what comes later in the same episode is true, that step's included.

    Args:
        values: bool `[num_steps, ...]`.
        restarts: bool `[num_steps]`, see `Inside`; `None` for none.

    Example:
        >>> later_any(jnp.array([False, False, True, False]), None).tolist()
        [True, True, True, False]
    """
    if restarts is None:  # a byte each, where counts would take four
        return jax.lax.cummax(values.astype(jnp.int8), axis=0, reverse=True) > 0
    return later_sums(values.astype(jnp.int32), restarts) > 0


def unroll_inside(
    task: Task,
    tx: optax.GradientTransformation,
    state: OptimizeeState,
    key: Key,
    inside: Inside,
    fresh_key: Key,
    *,
    second_derivatives: bool,
    remat: Remat,
) -> tuple[OptimizeeState, jax.Array]:
    """`l2ljax.unroll` of one optimizee, with the restarts of `inside`.

    Returns:
        the state after the last step, and losses `[num_steps + 1]`; where an episode begins the
        loss is the last of the one before.
    """
    tx = optax.with_extra_args_support(tx)
    num_steps = inside.restarts.shape[0]
    assert inside.anywhere is not None
    keys = jax.random.split(key, num_steps + 1)

    def look(instance, params, key):
        batch = draw_batch(task, instance, key)
        seen = step_of_task(task, params, batch, second_derivatives=second_derivatives)
        return seen, batch

    def inner_step(carry, inputs):
        number, key, restarts, anywhere = inputs
        seen = look(carry.instance, carry.params, key)
        loss = seen[0][0]

        def anew():
            new = begun(task, fresh_key, number)
            instance, params = select(restarts, new, (carry.instance, carry.params))
            opt_state = select(restarts, tx.init(params), carry.opt_state)
            return OptimizeeState(instance, params, opt_state), look(instance, params, key)

        state, ((value, gradients, task_state), batch) = jax.lax.cond(
            anywhere, anew, lambda: (carry, seen)
        )
        updates, opt_state = tx.update(
            gradients,
            state.opt_state,
            state.params,
            value=value,
            grad=gradients,
            value_fn=lambda p: scalar_loss(task, p, batch),
        )
        instance = state.instance
        if task_state is not None:
            instance = instance._replace(state=task_state)
        params = optax.apply_updates(state.params, updates)
        return OptimizeeState(instance, params, opt_state), loss

    state, losses = checkpointed_scan(
        inner_step,
        state,
        (jnp.arange(num_steps), keys[:-1], inside.restarts, inside.anywhere),
        remat=remat,
        policy=jax.checkpoint_policies.save_only_these_names("optimizee"),
    )
    last = scalar_loss(task, state.params, draw_batch(task, state.instance, keys[-1]))
    return state, jnp.append(losses, last)


def begun(task: Task, key: Key, number: jax.Array) -> tuple[PyTree, PyTree]:
    """The instance and theta_0 of an episode that begins before step `number` >= 1 of a window."""
    # 2 and on, as the window's first episode may have split the key, as folding in 0 and 1 does
    return sample_optimizee(task, jax.random.fold_in(key, number + 1))
