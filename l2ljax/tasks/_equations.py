"""Differential equations, solved by a network that makes their residual small."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from l2ljax.base import Batch, Instance, Key, Params, PyTree, Task
from l2ljax.checks import check_number, check_positive_int, check_sizes
from l2ljax.tasks._regression import small_weights, tanh_network

FREQUENCIES = 6.0, 12.0
"""Of an oscillator, in radians: one to two periods."""

DAMPING = 0.1, 0.4
"""Of it, as a share of the damping that lets nothing swing."""


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
            return tanh_network(params, x[None, None])[0, 0]

        residual = jax.vmap(jax.grad(jax.grad(u)))(x) - force
        ends = jnp.stack([u(jnp.zeros([])), u(jnp.ones([]))])
        return jnp.mean(jnp.square(residual)) / math.pi**4 + boundary * jnp.mean(jnp.square(ends))

    return Task(init=small_weights(sizes), loss=loss, sample=sample, batch=batch)


def oscillator(
    hidden_sizes: Sequence[int] = (32, 32), points: int = 64, boundary: float = 10.0
) -> Task:
    """A physics-informed network for a damped oscillator, u'' + 2 z w u' + w^2 u = 0 on [0, 1].

    It is let go at u(0) = 1 with u'(0) = 0; w, in [6, 12], and z, in [0.1, 0.4], are drawn once an
    optimizee. The loss is the mean squared residual at random points in units of w^2, plus
    `boundary` times (u(0) - 1)^2 + (u'(0) / w)^2 (Raissi et al. 2019).

    Args:
        hidden_sizes: tanh units of the network.
        points: places in a step, drawn uniformly.
        boundary: weight of the start's term.

    Returns:
        a `Task` whose params are `[{"kernel": [in, out], "bias": [out]}, ...]`, and whose instances
        are (w, z), float32 `[2]`.

    Raises:
        ValueError: for sizes or a weight that are not positive.

    Example:
        >>> task = oscillator(hidden_sizes=(8,), points=4)
        >>> task.batch((), task.sample((), jax.random.key(0)), jax.random.key(1))[0].shape
        (4,)
    """
    check_positive_int("points", points)
    check_number("boundary", boundary, above=0)
    sizes = [1, *check_sizes("hidden_sizes", hidden_sizes), 1]

    def sample(data: PyTree, key: Key) -> Instance:
        del data
        return jax.random.uniform(
            key,
            (2,),
            minval=jnp.array([FREQUENCIES[0], DAMPING[0]]),
            maxval=jnp.array([FREQUENCIES[1], DAMPING[1]]),
        )

    def batch(data: PyTree, instance: Instance, key: Key) -> Batch:
        del data
        return jax.random.uniform(key, (points,)), instance

    def loss(params: Params, batch: Batch) -> jax.Array:
        times, (frequency, damping) = batch

        def u(time: jax.Array) -> jax.Array:
            return tanh_network(params, time[None, None])[0, 0]

        def residual(time: jax.Array) -> jax.Array:
            velocity, acceleration = jax.grad(u)(time), jax.grad(jax.grad(u))(time)
            return acceleration / frequency**2 + 2 * damping * velocity / frequency + u(time)

        begin = jnp.zeros([])
        start = jnp.square(u(begin) - 1) + jnp.square(jax.grad(u)(begin) / frequency)
        return jnp.mean(jnp.square(jax.vmap(residual)(times))) + boundary * start

    return Task(init=small_weights(sizes), loss=loss, sample=sample, batch=batch)
