"""What `nominal` is told of a tensor that is itself what is sought: a picture, a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.optimizers import nominal

RATE = float(np.exp(-6.0))
HELD = 13  # column: the logarithm of how many numbers a tensor has, or whether it is alone

PICTURE = jnp.zeros((3, 4, 5))  # 60 numbers
TREES = {
    "a picture": (PICTURE, True),
    "a picture and less than a tenth": ({"a": PICTURE, "b": jnp.zeros(6)}, True),
    "a picture and more than a tenth": ({"a": PICTURE, "b": jnp.zeros(7)}, False),
    "kernels of one size": ({"a": PICTURE, "b": PICTURE}, False),
    "a matrix": (jnp.zeros((12, 5)), False),
    "nothing in it": (jnp.zeros((3, 0, 5)), True),
}


def steps(tx, params, num_steps=5):
    """The last of some updates on gradients that are all of the same numbers."""
    rng, state = np.random.default_rng(2), tx.init(params)
    for _ in range(num_steps):
        gradients = jax.tree.map(lambda p: jnp.float32(rng.normal(size=p.shape)), params)
        updates, state = tx.update(gradients, state, params)
    return updates


@pytest.mark.parametrize("name", TREES)
def test_a_coefficient_on_it_changes_the_steps_of_pictures_alone(name):
    """By a factor of exp(7 tanh(0.1)) beside Adam's at exp(-6), whatever else there is."""
    params, alone = TREES[name]
    optimizer = nominal((), alone=True)
    (layer,) = jax.tree.map(jnp.zeros_like, optimizer.init(jax.random.key(0)))["layers"]
    bias = layer["bias"].at[2:6].set(jnp.array([-99.0, 99.0, -99.0, -99.0]))
    weights = {"layers": [{"kernel": layer["kernel"].at[HELD, 0].set(0.1), "bias": bias}]}
    ours = jax.tree.leaves(steps(optimizer.transform(weights), params))
    adams = jax.tree.leaves(steps(optax.adam(RATE), params))
    for k, (found, plain) in enumerate(zip(ours, adams, strict=True)):
        factor = np.exp(7 * np.tanh(0.1)) if alone and k == 0 else 1.0
        np.testing.assert_allclose(found, factor * plain, rtol=1e-3, atol=1e-7)


def test_without_it_the_network_is_told_how_many_numbers_there_are():
    """A coefficient c on log(60) / 8: a factor of exp(7 tanh(c log(60) / 8))."""
    optimizer = nominal(())
    (layer,) = jax.tree.map(jnp.zeros_like, optimizer.init(jax.random.key(0)))["layers"]
    bias = layer["bias"].at[2:6].set(jnp.array([-99.0, 99.0, -99.0, -99.0]))
    weights = {"layers": [{"kernel": layer["kernel"].at[HELD, 0].set(0.1), "bias": bias}]}
    found, plain = steps(optimizer.transform(weights), PICTURE), steps(optax.adam(RATE), PICTURE)
    factor = np.exp(7 * np.tanh(0.1 * np.log(60) / 8))
    np.testing.assert_allclose(found, factor * plain, rtol=1e-3, atol=1e-7)


def test_what_is_neither_true_nor_false_is_refused():
    with pytest.raises(TypeError, match="alone must be a bool, got 1"):
        nominal(alone=1)
