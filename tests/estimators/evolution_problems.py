"""Problems of Vicol et al. (2021) with known answers, as tasks and learned optimizers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from l2ljax.base import LearnedOptimizer, Task

SIZE = 23
TRANSITION = 0.5 * np.eye(SIZE) + 0.5 * np.eye(SIZE, k=1)
SIGNS = np.where(np.arange(SIZE) < 10, 1.0, -1.0)


def moved(new, params):
    return jax.tree.map(jnp.subtract, new, params)


def influence_balancing():
    """x <- A x + theta s from ones, L = (x_0 - 1)^2 / 2; theta* = -1/6 at the fixed point."""
    task = Task(
        init=lambda instance, key: jnp.ones(SIZE),
        loss=lambda x, batch: 0.5 * (x[0] - 1) ** 2,
    )

    def transform(theta):
        def update(gradients, state, x=None, **extra):
            del gradients, extra
            new = jnp.asarray(TRANSITION, jnp.float32) @ x + theta * jnp.asarray(SIGNS, jnp.float32)
            return moved(new, x), state

        return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)

    return task, LearnedOptimizer(init=lambda key: jnp.float32(0.5), transform=transform)


def toy_regression(episode_length):
    """SGD whose rate goes from exp(theta_0) to exp(theta_1) over an episode."""

    def loss(x, batch):
        del batch
        return (
            jnp.sqrt(x[0] ** 2 + 5)
            - jnp.sqrt(5.0)
            + jnp.sin(x[1]) ** 2 * jnp.exp(-5 * x[0] ** 2)
            + 0.25 * jnp.abs(x[1] - 100)
        )

    def transform(theta):
        def update(gradients, step, x=None, **extra):
            del x, extra
            share = step / episode_length
            rate = jnp.exp(theta[0]) * (1 - share) + jnp.exp(theta[1]) * share
            return -rate * gradients, step + 1

        return optax.GradientTransformationExtraArgs(lambda params: jnp.zeros([]), update)

    task = Task(init=lambda instance, key: jnp.ones(2), loss=loss)
    return task, LearnedOptimizer(init=lambda key: jnp.zeros(2), transform=transform)


def linear_system():
    """x <- 0.9 x + phi + noise: the losses c x are linear in phi, so ES smooths nothing."""
    task = Task(
        sample=lambda data, key: jax.random.normal(key),
        init=lambda instance, key: jnp.ones(()),
        batch=lambda data, instance, key: jax.random.normal(key),
        loss=lambda x, batch: x + 0 * batch,
    )

    def transform(phi):
        def update(gradients, state, x=None, **extra):
            del gradients, extra
            return 0.9 * x + phi["a"] + 2 * phi["b"][0] - x, state

        return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)

    return task, LearnedOptimizer(
        init=lambda key: {"a": jnp.float32(0.3), "b": jnp.asarray([0.1, 5.0])}, transform=transform
    )
