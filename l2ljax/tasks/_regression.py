"""Regression on functions that are drawn or known: teachers, pictures, a differential equation."""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from l2ljax.base import Batch, Instance, Key, Params, PyTree, Task
from l2ljax.checks import check_number, check_positive_int, check_sizes
from l2ljax.tasks.layers import truncated_kernel


def teacher(
    inputs: int = 8,
    teacher_units: int = 16,
    hidden_sizes: Sequence[int] = (32, 32),
    batch_size: int = 64,
    init_scale: float = 1.0,
) -> Task:
    """Fit a small random network: tanh students, mean squared error, fresh inputs in each step.

    The teacher has one hidden layer of tanh and an output of variance about 1; it is drawn once an
    optimizee. Inputs are normal.

    Args:
        inputs: numbers an example has.
        teacher_units: hidden units of the teacher.
        hidden_sizes: hidden units of the student.
        batch_size: examples in a step.
        init_scale: factor on the student's kernels at the start.

    Returns:
        a `Task` whose params are `[{"kernel": [in, out], "bias": [out]}, ...]`.

    Raises:
        ValueError: for sizes or a scale that are not positive.

    Example:
        >>> task = teacher(inputs=2, hidden_sizes=(4,))
        >>> [layer["kernel"].shape for layer in task.init((), jax.random.key(0))]
        [(2, 4), (4, 1)]
    """
    check_positive_int("inputs", inputs)
    check_positive_int("teacher_units", teacher_units)
    check_positive_int("batch_size", batch_size)
    check_number("init_scale", init_scale, above=0)
    sizes = [inputs, *check_sizes("hidden_sizes", hidden_sizes), 1]

    def sample(data: PyTree, key: Key) -> Instance:
        del data
        first, second = jax.random.split(key)
        hidden = 2 * jax.random.normal(first, (inputs, teacher_units)) / math.sqrt(inputs)
        return hidden, 1.5 * jax.random.normal(second, (teacher_units,)) / math.sqrt(teacher_units)

    def batch(data: PyTree, instance: Instance, key: Key) -> Batch:
        del data
        hidden, out = instance
        x = jax.random.normal(key, (batch_size, inputs))
        return x, jnp.tanh(x @ hidden) @ out

    def loss(params: Params, batch: Batch) -> jax.Array:
        x, y = batch
        return jnp.mean(jnp.square(_network(params, x)[:, 0] - y))

    return Task(init=_init(sizes, init_scale), loss=loss, sample=sample, batch=batch)


def implicit_field(
    size: int = 32, hidden_sizes: Sequence[int] = (64, 64), frequencies: int = 6
) -> Task:
    """A picture as a function of the place: a network from Fourier features to grey values.

    Each optimizee has its own picture, a sum of random waves, scaled to [0, 1]. Inputs are sines
    and cosines of the two coordinates at octaves (Tancik et al. 2020, arXiv:2006.10739); every step
    sees all pixels; the loss is the mean squared error.

    Args:
        size: height and width of the picture.
        hidden_sizes: tanh units of the network.
        frequencies: octaves of each coordinate.

    Returns:
        a `Task` whose params are `[{"kernel": [in, out], "bias": [out]}, ...]`, and whose instances
        are pictures, float32 `[size * size]`.

    Raises:
        ValueError: for sizes that are no positive integers.

    Example:
        >>> task = implicit_field(size=8, hidden_sizes=(4,), frequencies=2)
        >>> task.sample((), jax.random.key(0)).shape
        (64,)
    """
    check_positive_int("size", size, minimum=2)
    check_positive_int("frequencies", frequencies)
    sizes = [4 * frequencies, *check_sizes("hidden_sizes", hidden_sizes), 1]

    def places() -> jax.Array:
        axis = jnp.linspace(0.0, 1.0, size)
        return jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)

    def sample(data: PyTree, key: Key) -> Instance:
        del data
        waves, phases = jax.random.split(key)
        direction = 12 * jax.random.normal(waves, (2, 8))
        phase = jax.random.uniform(phases, (8,), maxval=2 * math.pi)
        picture = jnp.sin(places() @ direction + phase).sum(axis=-1)
        return (picture - picture.min()) / (picture.max() - picture.min())

    def loss(params: Params, batch: Batch) -> jax.Array:
        angles = places()[:, None] * (math.pi * 2.0 ** jnp.arange(frequencies))[:, None]
        features = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        grey = _network(params, features.reshape(size * size, -1))[:, 0]
        return jnp.mean(jnp.square(grey - batch))

    return Task(init=_init(sizes), loss=loss, sample=sample)


def poisson(
    hidden_sizes: Sequence[int] = (32, 32), points: int = 64, boundary: float = 10.0
) -> Task:
    """A physics-informed network for u'' = f on [0, 1] with u = 0 at both ends.

    f is that of u(x) = a_1 sin(pi x) + ... + a_4 sin(4 pi x) with a_k ~ N(0, 1 / k^2), drawn once
    an optimizee. The loss is the mean squared residual at random points in units of pi^4, plus
    `boundary` times the mean square of u at the ends (Raissi et al. 2019).

    Args:
        hidden_sizes: tanh units of the network.
        points: places in a step, drawn uniformly.
        boundary: weight of the boundary's term.

    Returns:
        a `Task` whose params are `[{"kernel": [in, out], "bias": [out]}, ...]`, and whose instances
        are a_1 ... a_4, float32 `[4]`.

    Raises:
        ValueError: for sizes or a weight that are not positive.

    Example:
        >>> task = poisson(hidden_sizes=(8,), points=4)
        >>> instance = task.sample((), jax.random.key(0))
        >>> task.batch((), instance, jax.random.key(1))[0].shape
        (4,)
    """
    check_positive_int("points", points)
    check_number("boundary", boundary, above=0)
    sizes = [1, *check_sizes("hidden_sizes", hidden_sizes), 1]
    modes = jnp.arange(1.0, 5.0)

    def sample(data: PyTree, key: Key) -> Instance:
        del data
        return jax.random.normal(key, (4,)) / modes

    def batch(data: PyTree, instance: Instance, key: Key) -> Batch:
        del data
        x = jax.random.uniform(key, (points,))
        waves = jnp.sin(math.pi * x[:, None] * modes)
        return x, -(waves * jnp.square(math.pi * modes)) @ instance

    def loss(params: Params, batch: Batch) -> jax.Array:
        x, force = batch

        def u(x: jax.Array) -> jax.Array:
            return _network(params, x[None, None])[0, 0]

        residual = jax.vmap(jax.grad(jax.grad(u)))(x) - force
        ends = jnp.stack([u(jnp.zeros([])), u(jnp.ones([]))])
        return jnp.mean(jnp.square(residual)) / math.pi**4 + boundary * jnp.mean(jnp.square(ends))

    return Task(init=_init(sizes), loss=loss, sample=sample, batch=batch)


def _init(sizes: Sequence[int], scale: float = 1.0):
    def init(instance: Instance, key: Key) -> Params:
        del instance
        keys = jax.random.split(key, len(sizes) - 1)
        return [
            {"kernel": scale * truncated_kernel(k, (m, n)), "bias": jnp.zeros(n)}
            for k, (m, n) in zip(keys, itertools.pairwise(sizes), strict=True)
        ]

    return init


def _network(params: Params, x: jax.Array) -> jax.Array:
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
    return x @ params[-1]["kernel"] + params[-1]["bias"]
