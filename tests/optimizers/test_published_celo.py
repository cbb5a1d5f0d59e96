"""Celo's published weights, in both formats that there are, take the official code's steps."""

import chex
import jax
import numpy as np
import optax
import pytest
from zoo import ZOO, below, needs_zoo, problem_of, reference

from l2ljax.optimizers import load_published

FILES = {
    "celo": ("celo.npz", "celo.theta.state"),
    "celo-adam": ("celo-adam.npz", "celo_adam.theta.state"),
}
every_kind = pytest.mark.parametrize("kind", FILES)


@needs_zoo
@every_kind
def test_both_formats_are_the_same_weights(kind):
    """NumPy's archive and flax's msgpack; the same optimizer, bit for bit the same weights."""
    loaded = [load_published(kind, ZOO / file, num_steps=100) for file in FILES[kind]]
    (optimizer, weights), (same_optimizer, same_weights) = loaded
    assert optimizer is same_optimizer
    assert optimizer.specification["num_steps"] == 100
    assert jax.tree.leaves(weights)
    chex.assert_trees_all_equal(weights, same_weights)


@needs_zoo
@every_kind
def test_the_loaded_file_takes_the_official_steps(kind):
    """Twelve steps of 1,000: within 1e-4 of the largest movement, and the parameters' rounding."""
    optimizer, weights = load_published(kind, ZOO / FILES[kind][1], num_steps=1000)
    name, run = kind.replace("-", "_"), "P1_T1000"
    archive, problem, tx = reference(name), problem_of(name, run), optimizer.transform(weights)

    def step(carry, seen):
        (params, state), (gradient, loss) = carry, seen
        updates, state = tx.update(gradient, state, params, value=loss)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    start = below(archive, f"theta0/{problem}/")
    gradients, losses = below(archive, f"grads/{problem}/"), archive[f"losses/{problem}"]
    _, params = jax.jit(lambda p, *seen: jax.lax.scan(step, (p, tx.init(p)), seen))(
        start, gradients, losses
    )
    expected = below(archive, f"params/{run}/")
    movement = max(np.abs(expected[leaf] - start[leaf]).max() for leaf in start)
    rounding = max(np.abs(expected[leaf]).max() for leaf in start) * 2**-23
    for leaf in start:
        np.testing.assert_allclose(params[leaf], expected[leaf], 0, 1e-4 * movement + rounding)
