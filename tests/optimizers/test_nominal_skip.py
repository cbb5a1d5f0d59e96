"""`nominal` where gradients are not finite, and where parameters are beyond any use."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax import pretrained, pretrained_names
from l2ljax.optimizers import nominal
from l2ljax.optimizers.nominal_skip import LARGEST

OPTIONS = {"averaged": True, "directions": ("orthogonal",), "noise_limit": 2}
PARAMS = {"w": jnp.linspace(-1, 1, 24).reshape(6, 4), "b": jnp.zeros(4)}
SICK = (2, 1)
SUITES = [name for name in pretrained_names() if "-suite" in name and name != "rnnprop-suite"]


def gradient(seed):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=p.shape), p.dtype) for name, p in PARAMS.items()}


def with_at_sick(tree, value):
    return tree | {"w": tree["w"].at[SICK].set(value)}


def of(nonfinite):
    optimizer = nominal((4,), nonfinite=nonfinite, **OPTIONS)
    return optimizer.transform(optimizer.init(jax.random.key(0)))


def after(tx, gradients):
    """The last step and state."""
    step, state = None, tx.init(PARAMS)
    for each in gradients:
        step, state = jax.jit(tx.update)(each, state, PARAMS)
    return step, state


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_a_coordinate_without_a_gradient_stands_still_and_all_others_go_on(value):
    """They step as if its gradient were 0; its own moments are what they were."""
    tx = of("skip")
    before = after(tx, [gradient(0), gradient(1)])[1]
    step, state = jax.jit(tx.update)(with_at_sick(gradient(2), value), before, PARAMS)
    zero, _ = jax.jit(tx.update)(with_at_sick(gradient(2), 0.0), before, PARAMS)
    assert step["w"][SICK] == 0
    chex.assert_trees_all_equal(step, with_at_sick(zero, 0.0))
    trees = (*before.momenta, before.second, before.pending)
    for old, new in zip(trees, (*state.momenta, state.second, state.pending), strict=True):
        assert new["w"][SICK] == old["w"][SICK] != 0
        assert (jnp.sum(new["w"] == old["w"]), jnp.sum(new["b"] == old["b"])) == (1, 0)
    assert state.count == 3


def test_a_tensor_without_a_gradient_is_as_if_the_step_never_came():
    tx = of("skip")
    before = after(tx, [gradient(0), gradient(1)])[1]
    sick = gradient(2) | {"w": jnp.full((6, 4), jnp.nan)}
    step, state = jax.jit(tx.update)(sick, before, PARAMS)
    assert not step["w"].any()
    assert step["b"].all()
    ours, theirs = ([*s.momenta, s.second, s.pending, s.memory] for s in (state, before))
    chex.assert_trees_all_equal([tree["w"] for tree in ours], [tree["w"] for tree in theirs])


def test_the_size_at_the_start_is_known_though_the_first_gradients_were_lost():
    """As where a loss scale begins too large: the parameters of the first update are told later."""
    optimizer = nominal((4,), nonfinite="skip", from_start=True)
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    lost = jax.tree.map(lambda p: jnp.full_like(p, jnp.nan), PARAMS)
    states = [after(tx, [first, gradient(1)])[1] for first in (lost, gradient(0))]
    for name in PARAMS:
        found, expected = (state.memory[name][-2:] for state in states)
        np.testing.assert_array_equal(found, expected)
        assert (found != 0).all()


def test_finite_gradients_are_heeded_as_without():
    gradients = [gradient(seed) for seed in range(4)]
    found, plain = after(of("skip"), gradients), after(of("propagate"), gradients)
    chex.assert_trees_all_close(found, plain, rtol=1e-5, atol=1e-9)  # the program rounds otherwise


def test_where_they_are_not_to_be_skipped_its_tensor_is_lost_and_no_other():
    step, _ = after(of("propagate"), [gradient(0), with_at_sick(gradient(1), np.nan)])
    assert bool(jnp.isnan(step["w"]).all())
    assert bool(jnp.isfinite(step["b"]).all())


@pytest.mark.parametrize("name", SUITES)
def test_bundled_ones_fit_what_is_left_with_a_coordinate_that_never_has_a_gradient(name):
    tx = pretrained(name, nonfinite="skip")

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(with_at_sick(params, jnp.nan), state, params)
        return (optax.apply_updates(params, updates), state), None

    start = {"w": PARAMS["w"], "b": PARAMS["b"] + 1}
    end = jax.lax.scan(step, (start, tx.init(start)), None, 300)[0][0]
    assert end["w"][SICK] == start["w"][SICK]
    rest = with_at_sick(end, 0.0)
    assert float(optax.tree.norm(rest)) < 0.1 * float(optax.tree.norm(with_at_sick(start, 0.0)))


@pytest.mark.parametrize("size", [1e19, 1e30, 3e38])
def test_parameters_whose_squares_are_beyond_float32_make_bounded_steps(size):
    optimizer = nominal((8,), limit=5.0, rate=-6.0, span=7.0, from_start=True)
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    params = jax.tree.map(lambda p: jnp.full_like(p, size), PARAMS)
    step, _ = tx.update(gradient(0), tx.init(params), params)
    for leaf in jax.tree.leaves(step):
        assert bool((leaf != 0).all())
        assert float(jnp.abs(leaf).max()) <= 5 * np.exp(1.0) * 1.0001


def test_gradients_are_taken_as_long_as_their_squares_are_finite():
    assert np.isfinite(np.square(np.nextafter(np.float32(LARGEST), np.float32(0))))
    with np.errstate(over="ignore"):
        assert np.isinf(np.square(np.float32(LARGEST)))


def test_what_is_neither_is_refused():
    with pytest.raises(ValueError, match=r"nonfinite must be one of \['propagate', 'skip'\]"):
        nominal(nonfinite="ignore")  # pyright: ignore[reportArgumentType]
