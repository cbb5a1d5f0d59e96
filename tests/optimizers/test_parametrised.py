"""`l2ljax.logit`: a share that no step of a meta-optimizer takes to 1."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.optimizers import hyperparameters, log, logit


def test_a_share_that_rounds_to_1_is_the_next_number_below():
    """Adam's first step is the learning rate, whatever b2 below 1; with b2 = 1 it would be 0/0."""
    optimizer = hyperparameters(optax.adam, {"learning_rate": log(1e-3), "b2": logit(0.99999999)})
    tx, params = optimizer.transform(optimizer.init(jax.random.key(0))), jnp.ones(2)
    updates, _ = tx.update(params, tx.init(params), params)
    np.testing.assert_allclose(updates, -1e-3, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_no_step_takes_a_share_to_1(dtype):
    """In every dtype; and with a derivative, which is 0 out there."""
    share = logit(0.5)
    with jax.enable_x64(True):
        for raw in (17.0, 40.0, 1e4, jnp.inf):
            found, slope = jax.value_and_grad(share.of)(jnp.asarray(raw, dtype))
            assert found.dtype == dtype
            assert 0.99 < float(found) < 1
            assert 0 <= float(slope) < 1e-6


def test_other_shares_are_the_sigmoid():
    """By its closed form in float64."""
    raws = np.linspace(-15, 15, 31)
    found = logit(0.5).of(jnp.asarray(raws, jnp.float32))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-raws)), rtol=1e-6)
