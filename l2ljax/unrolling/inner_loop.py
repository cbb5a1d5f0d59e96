"""The inner loop: an Optax transformation minimising one optimizee under `lax.scan`.

theta_{t+1} = theta_t + g_t, with g_t the transformation's update (Andrychowicz et al. 2016,
section 2). By default the optimizee's gradients are constants of the meta-gradient ("the dashed
edges" of their figure 2 are dropped); each inner step is rematerialised in the backward pass, so
that memory grows with the state and not with the network's activations (`remat` has other choices).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.ad_checkpoint import checkpoint_name

from l2ljax.base import Batch, Instance, Key, Params, PyTree, Task
from l2ljax.base.words import dtype_of, path_name
from l2ljax.checks import (
    assert_shapes,
    check_key,
    check_like,
    check_positive_int,
    check_task,
    check_transform,
    short,
)
from l2ljax.unrolling.optimizee import OptimizeeState, final_params
from l2ljax.unrolling.remat import Remat, checkpointed_scan


def draw_batch(task: Task, instance: Instance, key: Key) -> Batch:
    """What the loss sees in one inner step; for a task with state, `(batch, state)`.

    Args:
        task: the task that `instance` was drawn from.
        instance: of an `OptimizeeState`.
        key: draws the minibatch.

    Returns:
        a tree of whatever the task's `batch` makes.

    Example:
        >>> task = Task(
        ...     init=lambda _, key: jnp.ones(2), loss=lambda x, rows: (rows @ x).mean(),
        ...     batch=lambda data, _, key: data[jax.random.randint(key, (3,), 0, 5)],
        ...     data=jnp.ones((5, 2)),
        ... )
        >>> draw_batch(task, (), jax.random.key(0)).shape
        (3, 2)
    """
    if task.init_state is None:
        return task.batch(task.data, instance, key)
    return task.batch(task.data, instance.instance, key), instance.state


def unroll(
    task: Task,
    tx: optax.GradientTransformation,
    state: OptimizeeState,
    key: Key,
    num_steps: int,
    *,
    second_derivatives: bool = False,
    remat: Remat = "step",
) -> tuple[OptimizeeState, jax.Array]:
    """Runs `num_steps` inner steps.

    Transformations that ask for them get the extra arguments `value` (the loss), `grad` and
    `value_fn` of the step's minibatch. A transformation with integer or PRNG state is fine. Under
    `optax.lookahead`, `state.params` are its two copies: the steps' losses and gradients are the
    fast one's, the loss of the final parameters is the slow one's, as Optax says.

    Args:
        task: the task that `state` was drawn from.
        tx: any Optax transformation.
        state: where to start.
        key: for the minibatches; equal keys give equal minibatches whatever `tx` is.
        num_steps: inner steps, at least 1.
        second_derivatives: differentiate also through the optimizee's gradients, which costs a
            Hessian-vector product a step. By default they are constants (`stop_gradient`).
        remat: what a backward pass keeps: "step" the state before each step, "nested" only before
            each sqrt(num_steps)-th (for long unrolls: less memory, more time), "none" every
            activation. The optimizee's gradients are kept in any case.

    Returns:
        the state after the last step, and `losses`, float `[num_steps + 1]`: `losses[t]` is
        f(theta_t) on the minibatch of step t, before that step's update; the last entry is f at the
        final parameters, on a minibatch of its own.

    Raises:
        ValueError: if `num_steps` is no positive integer, or the task's loss is not a scalar.
        TypeError: for a `task`, `tx`, `state` or `key` that is none, and a task's state that begins
            as integers where the loss returns floats.

    Example:
        >>> parabola = Task(init=lambda _, key: jnp.ones(()), loss=lambda x, _: x**2)
        >>> from l2ljax.unrolling import init_optimizee
        >>> state = init_optimizee(parabola, optax.sgd(0.25), jax.random.key(0))
        >>> _, losses = unroll(parabola, optax.sgd(0.25), state, jax.random.key(1), 2)
        >>> [float(loss) for loss in losses]
        [1.0, 0.25, 0.0625]
    """
    check_task(task)
    check_transform("tx", tx)
    if not isinstance(state, OptimizeeState):
        raise TypeError(f"state must come from init_optimizee or unroll, got {short(state)}.")
    check_key("key", key)
    check_positive_int("num_steps", num_steps)
    tx = optax.with_extra_args_support(tx)
    step_keys = jax.random.split(key, num_steps + 1)

    def at(task_state):  # the instance, which is the same all along but for the task's state
        return state.instance if task_state is None else state.instance._replace(state=task_state)

    def inner_step(carry, step_key):
        params, opt_state, task_state = carry
        here = params.fast if isinstance(params, optax.LookaheadParams) else params
        batch = draw_batch(task, at(task_state), step_key)
        loss, gradients, task_state = step_of_task(
            task, here, batch, second_derivatives=second_derivatives
        )
        updates, opt_state = tx.update(
            gradients,
            opt_state,
            params,
            value=loss,
            grad=gradients,
            value_fn=lambda p: scalar_loss(task, p, batch),
        )
        return (optax.apply_updates(params, updates), opt_state, task_state), loss

    (params, opt_state, task_state), losses = checkpointed_scan(
        inner_step,
        (state.params, state.opt_state, None if task.init_state is None else state.instance.state),
        step_keys[:num_steps],
        remat=remat,
        # Recomputing a step is cheap but for the optimizee's gradient, small enough to keep.
        policy=jax.checkpoint_policies.save_only_these_names("optimizee"),
    )
    last_batch = draw_batch(task, at(task_state), step_keys[num_steps])
    last_loss = scalar_loss(task, final_params(params), last_batch)
    losses = jnp.append(losses, last_loss)
    assert_shapes("losses", losses, num_steps + 1)
    return OptimizeeState(at(task_state), params, opt_state), losses


def loss_and_gradients(
    task: Task, params: Params, batch: Batch, *, second_derivatives: bool = False
) -> tuple[jax.Array, Params]:
    """f and its gradient at `params` [f(theta_t), nabla_t].

    Without second derivatives the gradient is a constant, and the loss carries it as its
    derivative: the meta-backward pass needs d f(theta_t) / d theta_t, which is the gradient already
    at hand, and never differentiates the optimizee again.

    Args:
        task: whose loss.
        params: where, a tree of floating-point arrays.
        batch: from `draw_batch`.
        second_derivatives: as in `unroll`.

    Returns:
        the loss, a float scalar, and its gradient, a tree like `params`.

    Raises:
        ValueError: as `scalar_loss`.

    Example:
        >>> parabola = Task(init=lambda _, key: jnp.ones(()), loss=lambda x, _: x**2)
        >>> loss, gradient = loss_and_gradients(parabola, jnp.float32(3.0), ())
        >>> float(loss), float(gradient)
        (9.0, 6.0)
    """
    loss, gradients, _ = step_of_task(task, params, batch, second_derivatives=second_derivatives)
    return loss, gradients


def step_of_task(
    task: Task, params: Params, batch: Batch, *, second_derivatives: bool = False
) -> tuple[jax.Array, Params, PyTree]:
    """`loss_and_gradients`, and the task's next state (`None` for a task without)."""
    here = params if second_derivatives else jax.lax.stop_gradient(params)
    (loss, state), gradients = jax.value_and_grad(
        lambda p: _loss_and_state(task, p, batch), has_aux=True
    )(here)
    if second_derivatives:
        return loss, gradients, state
    loss, gradients, state = checkpoint_name(
        jax.lax.stop_gradient((loss, gradients, state)), "optimizee"
    )
    return _with_gradient(loss, params, gradients), gradients, state


def scalar_loss(task: Task, params: Params, batch: Batch) -> jax.Array:
    """`task.loss` without its state, refused with a sentence unless it is a real floating scalar.

    Args:
        task: whose loss.
        params: where, a tree of floating-point arrays.
        batch: from `draw_batch`.

    Returns:
        the loss, a float scalar.

    Raises:
        ValueError: for another shape or dtype, saying what it is; and of a task with state for a
            loss that returns no next state like the one it was given.

    Example:
        >>> parabola = Task(init=lambda _, key: jnp.ones(()), loss=lambda x, _: x**2)
        >>> float(scalar_loss(parabola, 3.0, ()))
        9.0
    """
    return _loss_and_state(task, params, batch)[0]


def _loss_and_state(task: Task, params: Params, batch: Batch) -> tuple[jax.Array, PyTree]:
    loss, state = task.loss(params, batch), None
    if task.init_state is not None:
        if not (isinstance(loss, tuple) and len(loss) == 2):
            raise ValueError(
                "The loss of a task with init_state must return (loss, next state), got a "
                f"{type(loss).__name__}; return the state as it is if nothing changes it."
            )
        loss, state = loss
        _, before = batch
        check_like(before, state, "the state that the task's loss returns", "keep its shapes")
        _refuse_truncation(before, state)
        state = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), state, before)
    if not isinstance(loss, jax.Array | np.ndarray | np.generic | float):
        raise ValueError(
            "The task's loss must be a real floating-point scalar, got "
            f"a {type(loss).__name__}; return the loss alone, such as the first of (loss, metrics)."
        )
    shape, dtype = jnp.shape(loss), jnp.result_type(loss)
    if shape != () or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"The task's loss must be a real floating-point scalar, got shape {shape} and dtype "
            f"{dtype}; reduce it, for example with jnp.mean."
        )
    return jnp.asarray(loss), state


def _refuse_truncation(before: PyTree, state: PyTree) -> None:
    """Refuses a state that begins with integers or bools where the loss returns floats."""
    pairs = jax.tree_util.tree_leaves_with_path(before)
    for (path, old), new in zip(pairs, jax.tree.leaves(state), strict=True):
        old, new = dtype_of(old), dtype_of(new)
        if new is None or not jnp.issubdtype(new, jnp.inexact):
            continue
        if jnp.issubdtype(old, jnp.integer) or jnp.issubdtype(old, jnp.bool_):
            raise TypeError(
                f"The state that the task's loss returns has dtype {new} at {path_name(path)}, "
                f"where init_state returns {old}; let init_state return float arrays."
            )


@jax.custom_jvp
def _with_gradient(loss: jax.Array, params: Params, gradients: Params) -> jax.Array:
    """`loss`, whose derivative with respect to `params` is `gradients` by decree."""
    del params, gradients
    return loss


@_with_gradient.defjvp
def _with_gradient_jvp(primals, tangents):
    loss, _, gradients = primals
    _, params_dot, _ = tangents
    return loss, jnp.asarray(optax.tree.vdot(gradients, params_dot), loss.dtype)
