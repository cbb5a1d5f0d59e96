"""The same functions in other units: scales of the parameters and of the loss."""

from collections.abc import Callable

import jax

from l2ljax.base import Key, Params, PyTree, Task
from l2ljax.checks import check_task
from l2ljax.tasks.transforms.carried import (
    With,
    around,
    batch_with,
    check_bounds,
    drawing,
    init_inner,
    init_state_inner,
    log_uniform,
)


def random_scale(task: Task, low: float, high: float, *, per_tensor: bool = False) -> Task:
    """The same functions in other units: f(s * theta), started from theta_0 / s.

    The factor s is log-uniform in [low, high], drawn once an optimizee. Every loss along a path is
    one that the inner task could have; gradients are s times as large and distances 1 / s.

    Args:
        task: any task.
        low, high: bounds of s, 0 < low <= high.
        per_tensor: one s for each leaf of the parameters instead of one for all.

    Returns:
        a task with params of the same shapes.

    Raises:
        ValueError: for bounds that are no positive numbers in order.

    Example:
        >>> from l2ljax.tasks import quadratic
        >>> task = random_scale(quadratic(dim=2), 1e-3, 1e3)
        >>> instance = task.sample(task.data, jax.random.key(0))
        >>> task.init(instance, jax.random.key(1)).shape
        (2,)
    """
    check_task(task)
    check_bounds(low, high)

    def sample(data: PyTree, key: Key, own: Key) -> With:
        inner = task.sample(data, key)
        if not per_tensor:
            return With(inner, log_uniform(own, low, high))
        params = jax.eval_shape(task.init, inner, key)
        leaves, treedef = jax.tree.flatten(params)
        keys = jax.random.split(own, len(leaves))
        return With(inner, treedef.unflatten([log_uniform(k, low, high) for k in keys]))

    def times(scale: PyTree, params: Params) -> Params:
        if per_tensor:
            return jax.tree.map(lambda s, p: p * s.astype(p.dtype), scale, params)
        return jax.tree.map(lambda p: p * scale.astype(p.dtype), params)

    def init(instance: With, key: Key) -> Params:
        inverse = jax.tree.map(lambda s: 1 / s, instance.extra)
        return times(inverse, task.init(instance.inner, key))

    return Task(
        init=init,
        loss=around(task, lambda inner, params, scale: inner(times(scale, params))),
        sample=drawing(task.sample, sample),
        batch=batch_with(task),
        data=task.data,
        init_state=init_state_inner(task),
    )


def scale_loss(task: Task, low: float, high: float | None = None) -> Task:
    """The loss times a factor, log-uniform in [low, high], drawn once an optimizee.

    Args:
        task: any task.
        low, high: bounds of the factor; without `high` it is `low`.

    Returns:
        a task with the same params.

    Raises:
        ValueError: for bounds that are no positive numbers in order.

    Example:
        >>> import jax.numpy as jnp
        >>> parabola = Task(init=lambda _, key: jnp.ones(()), loss=lambda x, _: x**2)
        >>> task = scale_loss(parabola, 3.0)
        >>> instance = task.sample((), jax.random.key(0))
        >>> batch = task.batch((), instance, jax.random.key(1))
        >>> round(float(task.loss(jnp.ones(()), batch)), 5)
        3.0
    """
    check_task(task)
    high = low if high is None else high
    check_bounds(low, high)

    def sample(data: PyTree, key: Key, own: Key) -> With:
        return With(task.sample(data, key), log_uniform(own, low, high))

    def scaled(inner: Callable[[Params], jax.Array], params: Params, factor: jax.Array):
        value = inner(params)
        return value * factor.astype(value.dtype)

    return Task(
        init=init_inner(task),
        loss=around(task, scaled),
        sample=drawing(task.sample, sample),
        batch=batch_with(task),
        data=task.data,
        init_state=init_state_inner(task),
    )
