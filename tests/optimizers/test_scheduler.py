"""The scheduler of Celo, Celo-Adam and VeLO: very long trainings, half precision, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optimizer_cases import draw, stack

import l2ljax
from l2ljax.optimizers.scheduler import LossBuffer, loss_features, update_losses

SIZES = {
    "celo": {"hidden_size": 4},
    "celo_adam": {"hidden_size": 4},
    "velo": {"hidden_size": 4, "bank_size": 3},
}
LAST = 2**31 - 1
every_rule = pytest.mark.parametrize("name", SIZES)


def meta_params_of(name):
    return getattr(l2ljax, name)(num_steps=20, **SIZES[name]).init(jax.random.key(0))


def run(name, meta_params, num_steps=20):
    """Updates of five steps in a scan, and the last state."""
    tx = getattr(l2ljax, f"scale_by_{name}")(meta_params, num_steps=num_steps)
    params, losses = draw(0), jnp.array([2.0, 1.5, 1.8, 1.2, 1.0])

    def step(state, seen):
        gradient, loss = seen
        return tx.update(gradient, state, params, value=loss)[::-1]

    gradients = jax.tree.map(stack, *[draw(seed) for seed in range(1, 6)])
    return jax.jit(lambda: jax.lax.scan(step, tx.init(params), (gradients, losses)))()[::-1]


@every_rule
@pytest.mark.parametrize("num_steps", [2**25, 10**8, LAST])
def test_a_very_long_training_stays_finite(name, num_steps):
    """From 2^25 steps on the slowest average's decay is nearer to 1 than to what float32 has."""
    for leaf in jax.tree.leaves(run(name, meta_params_of(name), num_steps)):
        assert np.isfinite(leaf).all()


@every_rule
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_meta_parameters_of_half_precision_go_through_a_scan(name, dtype):
    """As the same numbers in float32 do."""
    half = optax.tree.cast(meta_params_of(name), dtype)
    found, expected = run(name, half), run(name, optax.tree.cast(half, jnp.float32))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_losses_are_averaged_on_when_the_count_has_stopped():
    """Averages of equal losses stay what they are, and so do their minima; features are
    (2 - 1) / (2 - 1) - 1."""
    losses = LossBuffer(jnp.full(10, 2.0), jnp.full(10, 1.0))
    count = jnp.int32(LAST)
    losses = update_losses(losses, jnp.float32(2.0), count, 100)
    np.testing.assert_allclose(losses.means, 2.0, rtol=1e-6)
    np.testing.assert_array_equal(losses.minima, 1.0)
    np.testing.assert_allclose(loss_features(losses, count, 100), 0.0, atol=1e-6)


@every_rule
@pytest.mark.parametrize("step_scale", [float("nan"), jnp.ones(2), "large"], ids=str)
def test_a_step_scale_that_is_no_number_is_refused(name, step_scale):
    """By the transformation, too, which `inject_hyperparams` calls."""
    with pytest.raises(ValueError, match="step_scale must be a finite number, got"):
        getattr(l2ljax, f"scale_by_{name}")(
            meta_params_of(name), num_steps=20, step_scale=step_scale
        )
