"""What the transforms share: instances and batches that carry what a transform drew."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from l2ljax.base import Key, Params, PyTree, Task
from l2ljax.checks import is_number, short
from l2ljax.tasks.minibatch import Batching, draws, with_draws


class With(NamedTuple):
    """An instance or batch of the inner task, and what a transform adds to it."""

    inner: Any
    extra: Any


Sampling = Callable[[PyTree, Key], Any]
"""(data, key) -> an instance."""

DRAWS_NONE = {field.name: field.default for field in dataclasses.fields(Task)}["sample"]
"""The `sample` of a task that has none."""

BEYOND = 2**16
"""More than any task splits its key into: which are the keys of folding in 0, 1, ... up to that."""


def drawing(inner: Sampling, sample: Callable[[PyTree, Key, Key], With]) -> Sampling:
    """(data, key, the key of its own draw) -> an instance, as (data, key) -> an instance.

    The inner task draws with the outer key, by which `cluster_of` tells its draws. The own key is
    none that it or a transform within has: of a task that draws none the number 1 is folded in.
    """
    within = getattr(inner, "draws", 0 if inner is DRAWS_NONE else BEYOND)

    def draw(data: PyTree, key: Key) -> With:
        return sample(data, key, jax.random.fold_in(key, within + 1))

    draw.draws = within + 1  # pyright: ignore[reportFunctionMemberAccess]
    return draw


def own_key(inner: Batching, key: Key) -> Key:
    """The key of a transform's own draw with each minibatch, which no transform within has.

    The inner task's minibatches stay those that it would have without the transform.
    """
    return jax.random.fold_in(key, 1 + draws(inner))


def init_inner(task: Task) -> Callable[[With, Key], Params]:
    """theta_0 of the inner task."""
    return lambda instance, key: task.init(instance.inner, key)


def batch_with(task: Task) -> Callable[[PyTree, With, Key], With]:
    """The inner task's batch, and what the transform drew for the instance."""

    def batch(data: PyTree, instance: With, key: Key) -> With:
        return With(task.batch(data, instance.inner, key), instance.extra)

    return with_draws(batch, draws(task.batch))


def init_state_inner(task: Task) -> Callable[[With, Key], PyTree] | None:
    """The state of the inner task's loss, if it has one."""
    if task.init_state is None:
        return None
    init_state = task.init_state
    return lambda instance, key: init_state(instance.inner, key)


Change = Callable[[Callable[[Params], jax.Array], Params, Any], jax.Array]
"""(the inner task's loss of the parameters alone, params, what the transform drew) -> scalar."""


def around(task: Task, change: Change) -> Callable[[Params, Any], Any]:
    """A loss made of the inner task's, whose state, if it has one, goes through.

    Args:
        task: the inner task.
        change: what is made of its loss.

    Returns:
        the loss of batches `With`, or of `(With, state)`.
    """

    def loss(params: Params, batch: Any) -> Any:
        if task.init_state is None:
            return change(lambda p: task.loss(p, batch.inner), params, batch.extra)
        batch, state = batch
        after = []

        def inner(params: Params) -> jax.Array:
            value, next_state = task.loss(params, (batch.inner, state))
            after.append(next_state)
            return value

        value = change(inner, params, batch.extra)
        return value, after[-1]

    return loss


def with_slope(value: jax.Array, params: Params, slope: Params) -> jax.Array:
    """`value`, with `slope` added to its gradient: a linear term that is 0 here."""
    moved = jax.tree.map(lambda p, s: jnp.sum(s * (p - jax.lax.stop_gradient(p))), params, slope)
    return value + sum(leaf.astype(value.dtype) for leaf in jax.tree.leaves(moved))


def log_uniform(key: Key, low: float, high: float) -> jax.Array:
    """A float32 scalar, log-uniform in [low, high]."""
    exponent = jax.random.uniform(key, (), jnp.float32, minval=math.log(low), maxval=math.log(high))
    return jnp.exp(exponent)


def check_bounds(low: Any, high: Any) -> None:
    """Refuses what are no bounds 0 < low <= high, with a ValueError."""
    if not (is_number(low) and is_number(high) and 0 < low <= high):
        raise ValueError(
            f"low and high must be positive numbers in order, got {short(low)} and {short(high)}."
        )
