"""One optimizee: drawn from its task, ready for a transformation, and what it ends with."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import Instance, Key, Params, PyTree, Running, Task
from l2ljax.base.words import dtype_of, kind_of, path_name
from l2ljax.checks import check_key, check_task, check_transform


class OptimizeeState(NamedTuple):
    """One running optimizee.

    Attributes:
        instance: the draw f ~ p(f) it minimises.
        params: its parameters [theta_t], a tree of floating-point arrays.
        opt_state: the state of the transformation that trains it.

    Example:
        >>> sgd = optax.sgd(0.1)
        >>> state = OptimizeeState(instance=(), params=jnp.ones(2), opt_state=sgd.init(jnp.ones(2)))
        >>> state._replace(params=jnp.zeros(2)).params.shape
        (2,)
    """

    instance: Instance
    params: Params
    opt_state: PyTree


def init_optimizee(task: Task, tx: optax.GradientTransformation, key: Key) -> OptimizeeState:
    """Draws an optimizee from `task`, at theta_0, ready for `tx`.

    The draw depends on `task` and `key` alone, so that different transformations given the same
    key start on the same function from the same parameters.

    Args:
        task: what to draw from.
        tx: any Optax transformation; it makes the first `opt_state`.
        key: draws the instance and theta_0.

    Returns:
        its state before the first step. Under `optax.lookahead` its params are two copies.

    Raises:
        TypeError: for a `task`, `tx` or `key` that is none, and a parameter without derivative.

    Example:
        >>> parabola = Task(init=lambda _, key: jnp.ones(()), loss=lambda x, _: x**2)
        >>> float(init_optimizee(parabola, optax.sgd(0.1), jax.random.key(0)).params)
        1.0
    """
    check_task(task)
    check_transform("tx", tx)
    check_key("key", key)
    instance, params = sample_optimizee(task, key)
    opt_state = tx.init(params)
    if _looks_ahead(opt_state):
        params = optax.LookaheadParams.init_synced(params)
    return OptimizeeState(instance, params, opt_state)


def _looks_ahead(opt_state: PyTree) -> bool:
    """Whether `optax.lookahead`, which keeps two copies of the parameters, made this state."""

    def is_its(node):
        return isinstance(node, optax.LookaheadState)

    return any(map(is_its, jax.tree.leaves(opt_state, is_leaf=is_its)))


def final_params(params: Params) -> Params:
    """What an optimizee ends with: its parameters; of `optax.lookahead`'s two copies the slow one.

    Args:
        params: those of an `OptimizeeState`.

    Returns:
        a tree like the task's parameters.

    Example:
        >>> float(final_params(optax.LookaheadParams(fast=1.0, slow=2.0)))
        2.0
    """
    return params.slow if isinstance(params, optax.LookaheadParams) else params


def sample_optimizee(task: Task, key: Key) -> tuple[Instance, Params]:
    """Draws `(instance, theta_0)` from `task`: what `init_optimizee` starts from.

    Args:
        task: what to draw from.
        key: draws both.

    Returns:
        the instance, of a task with state as a `Running`, and the params, floating-point arrays.

    Raises:
        TypeError: for a parameter that has no derivative, naming it.

    Example:
        >>> shifted = Task(
        ...     sample=lambda data, key: 3.0,
        ...     init=lambda centre, key: jnp.full(2, centre),
        ...     loss=lambda x, centre: jnp.mean((x - centre) ** 2),
        ... )
        >>> instance, params = sample_optimizee(shifted, jax.random.key(0))
        >>> instance, params.tolist()
        (3.0, [3.0, 3.0])
    """
    sample_key, init_key = jax.random.split(key)
    instance = task.sample(task.data, sample_key)
    params = task.init(instance, init_key)
    check_params(params)
    if task.init_state is not None:
        instance = Running(instance, task.init_state(instance, init_key))
    return instance, params


def check_params(params: Params) -> None:
    """Refuses parameters of a task that have no derivative: integers, functions, keys.

    Raises:
        TypeError: naming the leaf, what it is and what to do.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = dtype_of(leaf)
        if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            raise TypeError(
                "The params that the task's init returns must be floating-point arrays, but "
                f"{path_name(path)} {kind_of(leaf)}; let init return None there, and put it "
                "into the instance or, if it never changes, into the function `loss`."
            )
