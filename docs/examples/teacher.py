"""Fitting small random networks: a family of tasks of one's own in 20 lines."""

import jax
import jax.numpy as jnp

from l2ljax import Task


def network(params, x):
    return jnp.tanh(x @ params["hidden"] + params["bias"]) @ params["out"]


def draw(key):
    kernel, bias, out = jax.random.split(key, 3)
    return {
        "hidden": jax.random.normal(kernel, (4, 16)) / 2,
        "bias": 0.1 * jax.random.normal(bias, (16,)),
        "out": jax.random.normal(out, (16, 1)) / 4,
    }


def batch(data, teacher, key):
    x = jax.random.normal(key, (32, 4))
    return x, network(teacher, x)


task = Task(
    sample=lambda data, key: draw(key),  # a teacher
    init=lambda teacher, key: draw(key),  # a student, elsewhere
    batch=batch,
    loss=lambda params, batch: jnp.mean((network(params, batch[0]) - batch[1]) ** 2),
)
