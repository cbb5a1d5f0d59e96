"""Optimizers run on fresh optimizees, side by side under `vmap`.

Every optimizer meets the same optimizees, starting points and minibatches when it is given an equal
key (common random numbers). Meta-parameters are arguments of the compiled program, so that another
checkpoint of one architecture compiles nothing.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import Key, LearnedOptimizer, MetaParams, Params, Task
from l2ljax.checks import assert_shapes, check_key, check_positive_int, check_task, check_transform
from l2ljax.evaluation._programs import program
from l2ljax.unrolling import draw_batch, final_params, init_optimizee, scalar_loss, unroll
from l2ljax.unrolling.joined import joined
from l2ljax.unrolling.side_by_side import map_side_by_side

Optimizer = optax.GradientTransformation | tuple[LearnedOptimizer, MetaParams]
"""A transformation, or a learned optimizer and its meta-parameters."""


def evaluate(
    task: Task,
    tx: Optimizer,
    key: Key,
    *,
    num_tasks: int,
    num_steps: int,
    at_once: int = 64,
) -> jax.Array:
    """Losses of `tx` on fresh optimizees.

    A pair `(optimizer, meta_params)` is compiled once an architecture: other meta-parameters of the
    same shapes compile nothing, also under `jax.vmap` or `jax.lax.map` over checkpoints. A
    transformation is compiled for itself, and its program is dropped together with it.

    Args:
        task: where the optimizees come from.
        tx: any Optax transformation, learned or not; or a pair of an `l2ljax.LearnedOptimizer` and
            its meta-parameters.
        key: draws optimizees and minibatches; equal keys give equal ones whatever `tx` is.
        num_tasks: optimizees.
        num_steps: inner steps of each.
        at_once: optimizees run side by side at most, which bounds memory: only losses are kept of
            them. On a CPU no more do than its caches hold the states of.

    Returns:
        float `[num_tasks, num_steps + 1]`; column t is f(theta_t), see `l2ljax.unroll`.

    Raises:
        ValueError: for counts that are no positive integers.
        TypeError: for a `task`, `tx` or `key` that is none.

    Example:
        >>> from l2ljax.optimizers import lstm
        >>> from l2ljax.tasks import quadratic
        >>> key, sizes = jax.random.key(0), {"num_tasks": 3, "num_steps": 5}
        >>> evaluate(quadratic(), optax.sgd(0.01), key, **sizes).shape
        (3, 6)
        >>> optimizer = lstm((2,))
        >>> evaluate(quadratic(), (optimizer, optimizer.init(key)), key, **sizes).shape
        (3, 6)
    """
    check_run(task, tx, key, num_tasks, num_steps, at_once)
    return run(task, tx, key, Sizes(num_tasks, num_steps, at_once)).losses


def rollouts(
    task: Task,
    tx: Optimizer,
    key: Key,
    *,
    num_tasks: int,
    num_steps: int,
    at_once: int = 64,
) -> tuple[Params, jax.Array]:
    """As `evaluate`, with the optimizees' final parameters, all of which stay in memory.

    Args:
        task, tx, key, num_tasks, num_steps, at_once: as there.

    Returns:
        params, every leaf `[num_tasks, ...]`, and losses, float `[num_tasks, num_steps + 1]`.

    Raises:
        ValueError, TypeError: as there.

    Example:
        >>> from l2ljax.tasks import quadratic
        >>> key = jax.random.key(0)
        >>> params, losses = rollouts(quadratic(), optax.sgd(0.01), key, num_tasks=3, num_steps=5)
        >>> params.shape
        (3, 10)
    """
    check_run(task, tx, key, num_tasks, num_steps, at_once)
    found = run(task, tx, key, Sizes(num_tasks, num_steps, at_once, with_params=True))
    return found.params, found.losses


class Sizes(NamedTuple):
    """How much is run, and what is kept of it."""

    num_tasks: int
    num_steps: int
    at_once: int
    with_params: bool = False
    final_batches: int | None = None


class Found(NamedTuple):
    """What came of it: `losses` `[num_tasks, T + 1]`; `params` and `expected` if asked for."""

    losses: jax.Array
    params: Params = None
    expected: jax.Array | None = None


def run(task: Task, tx: Optimizer, key: Key, sizes: Sizes) -> Found:
    """Rollouts of arguments that have been checked."""
    parts, data = task_parts(task)
    if is_pair(tx):
        optimizer, meta_params = cast(tuple[LearnedOptimizer, MetaParams], tx)
        # Its functions, which live as long as it does; the tuple itself may be made anew.
        parts = [*parts, optimizer.init, optimizer.transform, optimizer.coordinate_groups]
        make = _learned
    else:
        parts, make = [*parts, *_transform_parts(tx)], _given(tx)
        meta_params = ()
    made = program(_run, parts, (type(task), make, sizes))
    return made(data, meta_params, key)


def _run(parts, settings, data, meta_params, key):
    kind, make, sizes = settings
    task, rest = whole_task(kind, parts, data)
    return rollouts_of(task, make(rest, meta_params), key, sizes)


def rollouts_of(task: Task, tx: optax.GradientTransformation, key: Key, sizes: Sizes) -> Found:
    """What every compiled program here runs."""

    def one(key):
        init_key, run_key = jax.random.split(key)
        optimizee = init_optimizee(task, tx, init_key)
        state, losses = unroll(task, tx, optimizee, run_key, sizes.num_steps)
        params = final_params(state.params)

        def final_loss(key):
            batch = draw_batch(task, state.instance, key)
            return scalar_loss(task, params, batch).astype(jnp.float32)

        expected = None
        if sizes.final_batches is not None:
            batch_keys = jax.random.split(jax.random.fold_in(run_key, 0), sizes.final_batches)
            expected = jax.lax.map(final_loss, batch_keys).mean()
        return Found(losses, params if sizes.with_params else None, expected)

    keys = jax.random.split(key, sizes.num_tasks)
    state = jax.eval_shape(lambda key: init_optimizee(task, tx, key), key)
    found = map_side_by_side(one, keys, state[1:], sizes.at_once)
    assert_shapes("losses", found.losses, sizes.num_tasks, sizes.num_steps + 1)
    return found


def optimizee_keys(key: Key, num_tasks: int) -> Key:
    """The keys that `task.sample` is called with in `evaluate`, `[num_tasks]`."""

    def one(key):
        init_key, _ = jax.random.split(key)
        return jax.random.split(init_key)[0]

    return jax.vmap(one)(jax.random.split(key, num_tasks))


def task_parts(task: Task) -> tuple[list[Any], list[Any]]:
    """A task's functions, and its data."""
    fields = dataclasses.fields(task)
    functions = [getattr(task, f.name) for f in fields if f.metadata.get("static")]
    return functions, [getattr(task, f.name) for f in fields if not f.metadata.get("static")]


def whole_task(kind: type[Task], parts: list[Any], data: list[Any]) -> tuple[Task, list[Any]]:
    """The task of `task_parts`, and the parts that are none of its."""
    static = [f.name for f in dataclasses.fields(kind) if f.metadata.get("static")]
    moving = [f.name for f in dataclasses.fields(kind) if not f.metadata.get("static")]
    named = dict(zip(static, parts, strict=False)) | dict(zip(moving, data, strict=True))
    return kind(**named), parts[len(static) :]


def is_pair(tx: Any) -> bool:
    """Whether `tx` is a learned optimizer and its meta-parameters."""
    return isinstance(tx, tuple | list) and len(tx) == 2 and isinstance(tx[0], LearnedOptimizer)


def as_transform(tx: Optimizer) -> optax.GradientTransformation:
    """A pair as a transformation; a transformation as it is."""
    return tx[0].transform(tx[1]) if is_pair(tx) else tx  # pyright: ignore


def _learned(parts, meta_params):
    return joined(LearnedOptimizer(*parts), meta_params)


def _transform_parts(tx: Any) -> tuple[Any, ...]:
    return tuple(tx)[:2] if isinstance(tx, tuple) else (tx,)


def _given(tx: Any) -> Callable[..., Any]:
    """How `_transform_parts` become a transformation again."""
    if not isinstance(tx, tuple):
        return _object
    return _extended if isinstance(tx, optax.GradientTransformationExtraArgs) else _plain


def _object(parts, meta_params):
    return parts[0]


def _plain(parts, meta_params):
    return optax.GradientTransformation(*parts)


def _extended(parts, meta_params):
    return optax.GradientTransformationExtraArgs(*parts)


def check_run(task: Any, tx: Any, key: Any, num_tasks: Any, num_steps: Any, at_once: Any) -> None:
    """Refuses what `evaluate` cannot run."""
    check_task(task)
    if not is_pair(tx):
        check_transform("tx", tx)
    check_counts(key, num_tasks, num_steps, at_once)


def check_counts(key: Any, num_tasks: Any, num_steps: Any, at_once: Any) -> None:
    """Refuses what is no key, and counts that are no positive integers."""
    check_key("key", key)
    check_positive_int("num_tasks", num_tasks)
    check_positive_int("num_steps", num_steps)
    check_positive_int("at_once", at_once)
