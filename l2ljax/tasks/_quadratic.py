"""Random quadratics f(theta) = ||W theta - y||^2 (Andrychowicz et al. 2016, section 3.1)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from l2ljax.base import Batch, Key, Params, PyTree, Task
from l2ljax.checks import check_number, check_positive_int


class Quadratic(NamedTuple):
    """One function of the family: `matrix` [W] `[dim, dim]` and `target` [y] `[dim]`."""

    matrix: jax.Array
    target: jax.Array


def quadratic(
    dim: int = 10,
    matrix_scale: float = 1.0,
    target_scale: float = 1.0,
    init_scale: float = 1.0,
) -> Task:
    """The paper's synthetic task: W, y and theta_0 have i.i.d. normal entries.

    Args:
        dim: size of theta, y and of the square W; the paper uses 10.
        matrix_scale: standard deviation of W's entries.
        target_scale: standard deviation of y's entries.
        init_scale: standard deviation of theta_0's entries; 0 starts at the origin.

    Returns:
        a `Task` with params `[dim]` float32, an instance `Quadratic`, and no data. The loss is the
        sum of squares, without minibatches: every step sees the whole function.

    Raises:
        ValueError: for a `dim` that is no positive integer or a scale that is no finite number.

    Example:
        >>> task = quadratic(dim=3)
        >>> instance = task.sample(task.data, jax.random.key(0))
        >>> theta = task.init(instance, jax.random.key(1))
        >>> instance.matrix.shape, theta.shape, task.loss(theta, instance).shape
        ((3, 3), (3,), ())
    """
    dim = check_positive_int("dim", dim)
    scales = {
        "matrix_scale": matrix_scale,
        "target_scale": target_scale,
        "init_scale": init_scale,
    }
    for name, scale in scales.items():
        check_number(name, scale)

    def sample(data: PyTree, key: Key) -> Quadratic:
        del data
        matrix_key, target_key = jax.random.split(key)
        return Quadratic(
            matrix=matrix_scale * jax.random.normal(matrix_key, (dim, dim)),
            target=target_scale * jax.random.normal(target_key, (dim,)),
        )

    def init(instance: Quadratic, key: Key) -> Params:
        del instance
        return init_scale * jax.random.normal(key, (dim,))

    def loss(params: Params, batch: Batch) -> jax.Array:
        return jnp.sum((batch.matrix @ params - batch.target) ** 2)

    return Task(init=init, loss=loss, sample=sample)
