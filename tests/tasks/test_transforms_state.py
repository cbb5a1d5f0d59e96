"""A task's state goes through transforms, or is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import l2ljax
from l2ljax import Task
from l2ljax.tasks.transforms import (
    convex_helper,
    es_gradients,
    noisy_gradients,
    random_scale,
    scale_loss,
)


def counted():
    """f_t(x) = (t + 1) |x|^2 / 2, where t is how often the loss made a step."""

    def loss(x, batch):
        _, step = batch
        return (step + 1) * jnp.sum(x**2) / 2, step + 1

    return Task(
        init=lambda instance, key: jnp.ones(2),
        init_state=lambda instance, key: jnp.float32(0.0),
        loss=loss,
    )


@pytest.mark.parametrize(
    ("transform", "first"),
    [
        (lambda t: random_scale(t, 2.0, 2.0), 1.0),
        (lambda t: random_scale(t, 2.0, 2.0, per_tensor=True), 1.0),
        (lambda t: scale_loss(t, 3.0), 3.0),
        (lambda t: noisy_gradients(t, 1e-9), 1.0),
        (lambda t: noisy_gradients(t, 1e-9, relative=True), 1.0),
        (lambda t: scale_loss(noisy_gradients(random_scale(t, 2.0, 2.0), 1e-9), 3.0), 3.0),
    ],
)
def test_a_tasks_state_goes_through_a_transform(transform, first):
    """Parameters stand still, so the losses are f_t(1, 1) = t + 1 times the factor."""
    losses = l2ljax.evaluate(
        transform(counted()), optax.set_to_zero(), jax.random.key(0), num_tasks=2, num_steps=4
    )
    np.testing.assert_allclose(losses, first * np.tile(np.arange(1.0, 6.0), (2, 1)), rtol=1e-5)


def test_a_helper_goes_beside_a_task_with_state():
    losses = l2ljax.evaluate(
        convex_helper(counted()), optax.set_to_zero(), jax.random.key(0), num_tasks=2, num_steps=3
    )
    np.testing.assert_allclose(np.diff(losses, axis=1), 1, rtol=1e-5)


def test_evolution_strategies_as_gradients_refuse_a_task_with_state():
    with pytest.raises(
        ValueError, match=r"es_gradients looks at .* give a task without init_state"
    ):
        es_gradients(counted(), 2)
