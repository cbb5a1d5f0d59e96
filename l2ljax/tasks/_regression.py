"""Regression on functions that are drawn or known: teachers and pictures."""

import itertools
import math
from collections.abc import Callable, Sequence

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
        return jnp.mean(jnp.square(tanh_network(params, x)[:, 0] - y))

    return Task(init=small_weights(sizes, init_scale), loss=loss, sample=sample, batch=batch)


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
        grey = tanh_network(params, features.reshape(size * size, -1))[:, 0]
        return jnp.mean(jnp.square(grey - batch))

    return Task(init=small_weights(sizes), loss=loss, sample=sample)


def small_weights(sizes: Sequence[int], scale: float = 1.0) -> Callable[[Instance, Key], Params]:
    """`init` of a network of these sizes, whatever the instance."""

    def init(instance: Instance, key: Key) -> Params:
        del instance
        keys = jax.random.split(key, len(sizes) - 1)
        return [
            {"kernel": scale * truncated_kernel(k, (m, n)), "bias": jnp.zeros(n)}
            for k, (m, n) in zip(keys, itertools.pairwise(sizes), strict=True)
        ]

    return init


def tanh_network(params: Params, x: jax.Array) -> jax.Array:
    """Tanh units and a linear output: `[n, in]` -> `[n, out]`."""
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
    return x @ params[-1]["kernel"] + params[-1]["bias"]
