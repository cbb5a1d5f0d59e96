"""A convex function beside the task (Lv et al. 2017)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from l2ljax.base import Key, Params, PyTree, Task
from l2ljax.checks import check_positive_int, check_task
from l2ljax.tasks.transforms.carried import (
    With,
    around,
    batch_with,
    drawing,
    init_state_inner,
)


def convex_helper(task: Task, dim: int = 20) -> Task:
    """Adds a simple convex function of further parameters: f(theta) + mean_i (x_i - v_i)^2.

    v and the start of x are uniform in [-1, 1]. An optimizer that is to make progress on it learns
    to descend where the task alone would teach it to wait (Lv et al. 2017, arXiv:1703.03633,
    section 4.2).

    Args:
        task: any task.
        dim: size of x and v.

    Returns:
        a task with params `{"task": theta, "helper": [dim]}`.

    Raises:
        ValueError: for a `dim` that is no positive integer.

    Example:
        >>> from l2ljax.tasks import quadratic
        >>> task = convex_helper(quadratic(dim=2), dim=3)
        >>> instance = task.sample(task.data, jax.random.key(0))
        >>> sorted(task.init(instance, jax.random.key(1)))
        ['helper', 'task']
    """
    check_task(task)
    check_positive_int("dim", dim)

    def uniform(key: Key) -> jax.Array:
        return jax.random.uniform(key, (dim,), minval=-1.0)

    def sample(data: PyTree, key: Key, own: Key) -> With:
        return With(task.sample(data, key), uniform(own))

    def init(instance: With, key: Key) -> Params:
        # Another key than the task's, whose own keys would be those of folding 0, 1, ... into it.
        start = task.init(instance.inner, jax.random.fold_in(key, 2))
        return {"task": start, "helper": uniform(jax.random.fold_in(key, 1))}

    def added(inner: Callable[[Params], jax.Array], params: Params, target: jax.Array) -> jax.Array:
        helper = jnp.mean(jnp.square(params["helper"] - target))
        value = inner(params["task"])
        return value + helper.astype(value.dtype)

    return Task(
        init=init,
        loss=around(task, added),
        sample=drawing(task.sample, sample),
        batch=batch_with(task),
        data=task.data,
        init_state=init_state_inner(task),
    )
