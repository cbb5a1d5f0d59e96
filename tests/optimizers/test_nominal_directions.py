"""What a step of `nominal` mixes in besides momenta, and a horizon that is told while training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.estimators import nres
from l2ljax.optimizers import nominal, scale_by_nominal
from l2ljax.optimizers.nominal_directions import ORTHOGONAL_RMS
from l2ljax.tasks import quadratic

PARAMS = {"w": jnp.ones((3, 5)), "b": jnp.zeros(5)}
RATE = np.exp(-6.0)


def only(index, directions):
    """A network of zeros that mixes one direction alone."""
    optimizer = nominal((4,), directions=directions)
    meta_params = jax.tree.map(jnp.zeros_like, optimizer.init(jax.random.key(0)))
    bias = jnp.full(6 + len(directions), -99.0).at[:2].set(0.0).at[index].set(99.0).at[3].set(99.0)
    meta_params["layers"][-1]["bias"] = bias
    return optimizer.transform(meta_params)


def gradients(steps=4):
    rng = np.random.default_rng(1)
    return [
        jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), PARAMS)
        for _ in range(steps)
    ]


def last_update(tx):
    state, update = tx.init(PARAMS), None
    for gradient in gradients():
        update, state = tx.update(gradient, state, PARAMS)
    return update


def test_the_tensors_direction_is_momentum_over_one_root():
    found = last_update(only(6, ("tensor",)))
    for name in PARAMS:
        sequence = np.stack([np.asarray(g[name], np.float64) for g in gradients()])
        momentum = sum(0.1 * 0.9 ** (3 - i) * g for i, g in enumerate(sequence)) / (1 - 0.9**4)
        second = sum(1e-3 * 0.999 ** (3 - i) * g**2 for i, g in enumerate(sequence))
        root = np.sqrt((second / (1 - 0.999**4)).mean())
        np.testing.assert_allclose(found[name], -RATE * momentum / root, rtol=1e-4)


def test_the_orthogonal_direction_is_that_of_muon():
    """Optax's Newton-Schulz iteration of momentum, at a size of its own."""
    found = last_update(only(7, ("tensor", "orthogonal")))
    momentum = sum(0.1 * 0.9 ** (3 - i) * g["w"] for i, g in enumerate(gradients()))
    np.testing.assert_allclose(found["w"], -RATE * muons(momentum), rtol=2e-3, atol=1e-6)


def test_adams_direction_is_orthogonalised_likewise():
    found = last_update(only(6, ("orthogonal_adam",)))
    adam = last_update(optax.adam(1.0))["w"]
    np.testing.assert_allclose(found["w"], RATE * muons(adam), rtol=2e-3, atol=1e-6)


def muons(matrix):
    """At the size that `nominal` gives it."""
    named = {"w": optax.contrib.MuonDimensionNumbers()}
    tx = optax.contrib.scale_by_muon(beta=0.0, nesterov=False, weight_dimension_numbers=named)
    tree = {"w": matrix}
    found = np.asarray(tx.update(tree, tx.init(tree), tree)[0]["w"])
    return found * ORTHOGONAL_RMS / np.sqrt((found**2).mean())


def test_a_vector_has_no_orthogonal_direction_but_adams():
    found = last_update(only(6, ("orthogonal",)))
    adam = last_update(optax.adam(float(RATE)))
    np.testing.assert_allclose(found["b"], adam["b"], rtol=1e-4)


@pytest.mark.parametrize("directions", [("tensor",), ("tensor", "orthogonal")])
def test_no_gradient_makes_no_step(directions):
    optimizer = nominal((4,), directions=directions)
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = tx.update(zero, tx.init(PARAMS), PARAMS)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(updates))


def test_unknown_directions_and_weights_of_others_are_refused():
    with pytest.raises(ValueError, match="tensor"):
        nominal(directions=("sideways",))
    with pytest.raises(ValueError, match="directions"):
        scale_by_nominal(nominal((4,)).init(jax.random.key(0)), directions=("tensor",))


def test_what_is_told_replaces_the_horizon():
    short, long = nominal((4,), num_steps=10), nominal((4,), num_steps=1000)
    meta_params = jax.tree.map(lambda x: 3 * x, short.init(jax.random.key(0)))
    told, built = long.transform(meta_params), short.transform(meta_params)
    state, expected_state = told.init(PARAMS), built.init(PARAMS)
    for gradient in gradients():
        found, state = told.update(gradient, state, PARAMS, num_steps=jnp.int32(10))
        expected, expected_state = built.update(gradient, expected_state, PARAMS)
    np.testing.assert_allclose(found["w"], expected["w"], rtol=1e-6)


def test_an_estimator_tells_it_the_length_of_each_episode():
    """Told that each episode of 6 is one of 40, it is as if built for 40."""
    common = {
        "num_tasks": 2,
        "episode_length": (6, 6),
        "unroll_length": 4,
        "num_perturbations": 2,
        "sigma": 0.1,
    }
    told = nres(quadratic(3), nominal((4,), num_steps=9), told=lambda n: n + 34, **common)
    built = nres(quadratic(3), nominal((4,), num_steps=40), **common)
    otherwise = nres(quadratic(3), nominal((4,), num_steps=9), **common)
    meta_params = told.optimizer.init(jax.random.key(0))
    found, expected, other = (third_gradient(e, meta_params) for e in (told, built, otherwise))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.allclose(found, other, rtol=1e-2)


def third_gradient(estimator, meta_params):
    state, grads = estimator.init(jax.random.key(1), meta_params), None
    estimate = jax.jit(estimator.estimate)
    for number in range(3):
        _, grads, state, _ = estimate(meta_params, state, jax.random.key(number))
    return np.concatenate([np.ravel(g) for g in jax.tree.leaves(grads)])


def test_told_must_be_a_function():
    with pytest.raises(TypeError, match="told must be a function"):
        nres(
            quadratic(3),
            nominal((4,)),
            num_tasks=1,
            episode_length=4,
            unroll_length=2,
            num_perturbations=1,
            sigma=0.1,
            told=3,
        )
