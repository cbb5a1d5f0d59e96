"""`guard` with losses that stay the same, and with Python's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import l2ljax

RATE = 0.1


@pytest.mark.parametrize("loss", [1.0, 2.3025851, 1e-7, -3.3, 12345.678])
def test_a_loss_that_stays_the_same_has_not_risen(loss):
    """To the last bit: it has no noise, so any rounding of its average would be a rise."""
    tx = l2ljax.guard(optax.sgd(RATE), optax.sgd(RATE))
    params = jnp.ones(2)

    def step(state, value):
        return tx.update(params, state, params, value=value)[1], None

    losses = jnp.concatenate([jnp.linspace(2, 1, 40), jnp.ones(400)]) * jnp.float32(abs(loss))
    for each in (jnp.full(300, loss, jnp.float32), losses + jnp.float32(loss)):
        state, _ = jax.lax.scan(step, tx.init(params), each)
        assert state.counts.loss == 0


def test_python_floats_are_parameters_too():
    tx = l2ljax.guard(optax.sgd(RATE), optax.sgd(RATE))
    updates, _ = tx.update({"x": 2.0}, tx.init({"x": 1.0}), {"x": 1.0}, value=1.0)
    np.testing.assert_allclose(updates["x"], -2 * RATE, rtol=1e-6)
