"""Functions with closed forms: what an optimizer does on them can be checked by hand."""

import jax
import jax.numpy as jnp

from l2ljax.base import Batch, Instance, Key, Params, PyTree, Task
from l2ljax.checks import check_number, check_positive_int
from l2ljax.tasks.rotations import orthogonal


def valley(dim: int = 20, condition: float = 1e4, noise: float = 0.0) -> Task:
    """Quadratics of a known condition number: f(x) = sum_i h_i (R (x - c))_i^2 / 2.

    The curvatures h_i are spread evenly in their logarithm from 1 / condition to 1, R is a random
    rotation and c a normal point, drawn once an optimizee. With `noise` each step sees another
    centre, c + noise * N(0, 1) in the rotated axes (the noisy quadratic model, Schaul et al. 2013,
    arXiv:1206.1106), and the reported loss is the noisy one.

    Args:
        dim: size of x, at least 2.
        condition: ratio of the largest to the smallest curvature, at least 1.
        noise: standard deviation of the centre's shifts.

    Returns:
        a `Task` with params `[dim]`, normal at the start.

    Raises:
        ValueError: for numbers out of range.

    Example:
        >>> task = valley(dim=4)
        >>> instance = task.sample((), jax.random.key(0))
        >>> task.init(instance, jax.random.key(1)).shape
        (4,)
    """
    check_positive_int("dim", dim, minimum=2)
    check_number("condition", condition, what="a number of at least 1")
    check_number("noise", noise, what="a number of at least 0")
    if condition < 1 or noise < 0:
        raise ValueError(f"condition must be >= 1 and noise >= 0, got {condition} and {noise}.")

    def sample(data: PyTree, key: Key) -> Instance:
        del data
        turn, centre = jax.random.split(key)
        rotation = orthogonal(turn, (dim, dim))
        return rotation, jax.random.normal(centre, (dim,)), jnp.zeros(dim)

    def init(instance: Instance, key: Key) -> Params:
        del instance
        return jax.random.normal(key, (dim,))

    def batch(data: PyTree, instance: Instance, key: Key) -> Batch:
        del data
        rotation, centre, _ = instance
        return rotation, centre, noise * jax.random.normal(key, (dim,))

    def loss(params: Params, batch: Batch) -> jax.Array:
        rotation, centre, shift = batch
        curvatures = jnp.logspace(-jnp.log10(condition), 0.0, dim)
        return 0.5 * jnp.sum(curvatures * jnp.square(rotation @ (params - centre) - shift))

    return Task(init=init, loss=loss, sample=sample, batch=batch)


def rosenbrock(dim: int = 2) -> Task:
    """Rosenbrock's banana: sum_i 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2, least (0) at all ones.

    theta_0 is normal with standard deviation 1 / 2 around (-1.2, 1, -1.2, ...), the usual start
    (Rosenbrock 1960).

    Args:
        dim: size of x, at least 2.

    Returns:
        a `Task` with params `[dim]`.

    Raises:
        ValueError: for a `dim` that is no integer of at least 2.

    Example:
        >>> float(rosenbrock().loss(jnp.ones(2), ()))
        0.0
    """
    check_positive_int("dim", dim, minimum=2)

    def init(instance: Instance, key: Key) -> Params:
        del instance
        start = jnp.where(jnp.arange(dim) % 2 == 0, -1.2, 1.0)
        return start + 0.5 * jax.random.normal(key, (dim,))

    def loss(params: Params, batch: Batch) -> jax.Array:
        del batch
        ahead, here = params[1:], params[:-1]
        return jnp.sum(100 * jnp.square(ahead - jnp.square(here)) + jnp.square(1 - here))

    return Task(init=init, loss=loss)


def factorisation(
    rows: int = 30, columns: int = 20, rank: int = 3, init_scale: float = 0.1
) -> Task:
    """Factors of a random matrix: the mean of (U V - M)^2, where M has the same rank.

    M's entries are of order 1. A function without local minima but with saddles, among them the
    origin, near which small `init_scale` starts (deep linear networks, Saxe et al. 2014,
    arXiv:1312.6120).

    Args:
        rows, columns, rank: U is `[rows, rank]`, V `[rank, columns]`.
        init_scale: standard deviation of their entries at the start.

    Returns:
        a `Task` with params `{"left": [rows, rank], "right": [rank, columns]}`.

    Raises:
        ValueError: for sizes or a scale that are not positive.

    Example:
        >>> task = factorisation(rows=4, columns=5, rank=2)
        >>> sorted(task.init((), jax.random.key(0)))
        ['left', 'right']
    """
    for name, size in {"rows": rows, "columns": columns, "rank": rank}.items():
        check_positive_int(name, size)
    check_number("init_scale", init_scale, above=0)

    def factors(key: Key, scale: float) -> Params:
        left, right = jax.random.split(key)
        return {
            "left": scale * jax.random.normal(left, (rows, rank)),
            "right": scale * jax.random.normal(right, (rank, columns)),
        }

    def sample(data: PyTree, key: Key) -> Instance:
        del data
        parts = factors(key, rank**-0.25)
        return parts["left"] @ parts["right"]

    def init(instance: Instance, key: Key) -> Params:
        del instance
        return factors(key, init_scale)

    def loss(params: Params, batch: Batch) -> jax.Array:
        return jnp.mean(jnp.square(params["left"] @ params["right"] - batch))

    return Task(init=init, loss=loss, sample=sample)
