"""Sizes of `nominal` where gradients are white noise, as those of random directions are."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax import pretrained
from l2ljax.optimizers import nominal
from l2ljax.optimizers.nominal_noise import white
from l2ljax.tasks import transforms
from l2ljax.tasks.suite import ENTRIES
from l2ljax.unrolling import init_optimizee, unroll

PARAMS = {"w": jnp.zeros((30, 20)), "b": jnp.zeros(20)}
SECOND, SLOWEST = 0.999, 0.99


def noise(seed, sizes, like=PARAMS):
    """Gradients of white noise of these sizes, stacked along the first axis."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        size = np.reshape(sizes, (-1, *[1] * leaf.ndim))
        return jnp.float32(size * rng.normal(size=(len(sizes), *leaf.shape)))

    return jax.tree.map(draw, like)


def steps_on(tx, gradients, like):
    """All steps on these gradients, stacked as they are."""

    def step(state, gradient):
        updates, state = tx.update(gradient, state, like)
        return state, updates

    return jax.lax.scan(step, tx.init(like), gradients)[1]


def last_of(gradients, like=PARAMS, **options):
    """The last step on these gradients, of a rule whose sizes are Adam's at exp(-6)."""
    optimizer = nominal((), **options)
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    return jax.tree.map(lambda u: u[-1], steps_on(tx, gradients, like))


def mean_squares(gradients):
    """Of all parameters, averaged over steps as second moments are, corrected for their start."""
    flat = np.concatenate([np.reshape(g, (len(g), -1)) for g in jax.tree.leaves(gradients)], 1)
    average, found = 0.0, []
    for t, square in enumerate((flat.astype(np.float64) ** 2).mean(axis=1), 1):
        average = SECOND * average + (1 - SECOND) * square
        found.append(average / (1 - SECOND**t))
    return np.array(found)


@pytest.mark.parametrize("limit", [2.0, 3.0])
def test_sizes_fall_with_the_square_of_what_noise_has_grown_beyond_the_limit(limit):
    gradients = noise(0, [1.0] * 100 + [6.0] * 1000)
    grown = mean_squares(gradients)
    factor = limit**2 * grown[99] / grown[-1]
    assert factor < 0.3
    found, plain = last_of(gradients, noise_limit=limit), last_of(gradients)
    for key in PARAMS:
        np.testing.assert_allclose(found[key], factor * plain[key], rtol=1e-4)


UNTOUCHED = {
    "noise that has not grown so much": noise(1, [1.0] * 100 + [1.9] * 300),
    "second moments that differ": jax.tree.map(
        lambda g: g * jnp.where(jnp.arange(g.shape[-1]) < 10, 1.0, 2.0),
        noise(2, [1.0] * 100 + [6.0] * 300),
    ),
    "a slope that is the same in all coordinates": jax.tree.map(
        lambda g: g + 10, noise(3, [1.0] * 100 + [6.0] * 300)
    ),
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_other_gradients_are_heeded_as_without_a_limit(name):
    """But for how the program rounds."""
    found, plain = last_of(UNTOUCHED[name], noise_limit=2.0), last_of(UNTOUCHED[name])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), found, plain)


def test_a_handful_of_parameters_can_be_alike_by_chance():
    like = {"w": jnp.zeros((33, 3))}
    gradients = noise(4, [1.0] * 100 + [6.0] * 300, like)
    found = last_of(gradients, like, noise_limit=2.0)
    np.testing.assert_allclose(found["w"], last_of(gradients, like)["w"], rtol=1e-5)
    assert float(white(like, like, jnp.float32(1))) == 0


@pytest.mark.parametrize("sizes", [[0.0] * 150 + [1.0] * 200, [1e15] * 100 + [1e18] * 200])
def test_steps_are_finite_whatever_the_size(sizes):
    """Nothing to compare with at step 100, or moments whose sum is beyond float32."""
    found = last_of(noise(5, sizes), noise_limit=2.0)
    assert all(bool(jnp.isfinite(u).all() & (u != 0).any()) for u in jax.tree.leaves(found))


def test_an_evolution_strategy_is_white_and_backpropagation_is_not():
    """A network on digits, 400 steps, by one pair of samples and by gradients."""
    task = ENTRIES["digits-relu-32"].build()
    found = []
    for each in (transforms.es_gradients(task, 1), task):
        tx = optax.chain(optax.scale_by_adam(0.99, 0.999), optax.scale(-1e-3))
        start = init_optimizee(each, tx, jax.random.key(0))
        end, _ = unroll(each, tx, start, jax.random.key(1), 400)
        adam = end.opt_state[0]
        unbias = (1 - SECOND**400) / (1 - SLOWEST**400) ** 2
        found.append(float(white(adam.nu, adam.mu, jnp.float32(unbias))))
    assert found == [1.0, 0.0]


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), "2"])
def test_what_is_no_positive_number_is_refused(limit):
    with pytest.raises((TypeError, ValueError), match="noise_limit must be a "):
        nominal(noise_limit=limit)


@pytest.mark.parametrize("name", ["span", "limit"])
def test_none_is_for_what_can_be_left_out_alone(name):
    options: Any = {name: None}
    with pytest.raises((TypeError, ValueError), match=f"{name} must be a "):
        nominal(**options)


def test_the_bundled_ones_without_a_limit_take_one():
    """As docs/choose.md says: shorter steps where noise has grown, and none of the others."""
    gradients, ends = noise(6, [1.0] * 100 + [6.0] * 400), []
    for options in ({}, {"noise_limit": 2}):
        tx = pretrained("opening-suite", **options)
        ends.append(steps_on(tx, gradients, PARAMS)["b"])
    plain, limited = np.asarray(ends)
    np.testing.assert_allclose(limited[:100], plain[:100], rtol=1e-4, atol=1e-8)
    assert np.abs(limited[-50:]).mean() < 0.6 * np.abs(plain[-50:]).mean()
