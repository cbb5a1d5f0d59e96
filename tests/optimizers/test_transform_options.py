"""The options of `scale_by_lstm`: bounded updates, coordinates that are skipped or held."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from lstm_cases import (
    LINEAR,
    NETWORK,
    TX,
    draw,
    jitted_update,
    linear_meta_params,
    meta_params_of,
)

from l2ljax.optimizers import lstm
from l2ljax.optimizers.transform import add_lstm, scale_by_lstm


def bounded_linear(slope, offset=0.0, **options):
    """u = (slope g + offset) / 4 for each coordinate, with options of `add_lstm`."""
    return add_lstm(linear_meta_params(slope, offset), LINEAR, **options)


def test_a_bound_cuts_larger_updates_and_leaves_smaller_ones_as_they_are():
    """To the bound, with their sign; the others and the state are the same to the last bit."""
    plain, bounded = bounded_linear(-1.0), bounded_linear(-1.0, max_update=0.5)
    gradient = jnp.float32([-9.0, -1.0, 0.0, 0.3, 2.0, 1e30])
    updates, state = bounded.update(gradient, bounded.init(gradient))
    np.testing.assert_array_equal(updates, jnp.float32([0.5, 0.25, 0.0, -0.3 / 4, -0.5, -0.5]))
    assert jax.tree.structure(state) == jax.tree.structure(plain.init(gradient))

    loose = add_lstm(meta_params_of(NETWORK), NETWORK, max_update=100.0, nonfinite="skip")
    expected, expected_state = jitted_update(draw(1), TX.init(draw(0)))
    same, same_state = jax.jit(loose.update)(draw(1), loose.init(draw(0)))
    chex.assert_trees_all_equal((same, same_state), (expected, expected_state))


def test_a_cut_update_has_no_derivative_and_a_smaller_one_its_own():
    """d u / d slope = g / 4 inside the bound, as by finite differences, and 0 outside."""

    def update(slope, gradient):
        tx = bounded_linear(slope, max_update=0.5)
        return tx.update(gradient, tx.init(gradient))[0]

    for gradient, expected in ((0.8, 0.2), (-1.0, -0.25), (40.0, 0.0), (-40.0, 0.0)):
        got = jax.grad(update)(jnp.float32(-1.0), jnp.float32(gradient))
        difference = update(jnp.float32(-0.99), jnp.float32(gradient)) - update(
            jnp.float32(-1.01), jnp.float32(gradient)
        )
        np.testing.assert_allclose(got, expected, atol=1e-6)
        np.testing.assert_allclose(difference / 0.02, expected, atol=1e-4)


def test_a_bound_can_be_an_injected_hyperparam():
    """And then be changed between two steps."""
    make = optax.inject_hyperparams(lambda max_update: bounded_linear(-1.0, max_update=max_update))
    tx = make(max_update=0.5)
    first, state = jax.jit(tx.update)(jnp.float32([8.0]), tx.init(jnp.zeros(1)))
    second, _ = tx.update(jnp.float32([8.0]), optax.tree.set(state, max_update=jnp.float32(0.25)))
    assert (float(first[0]), float(second[0])) == (-0.5, -0.25)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_skipped_coordinates_stand_still_and_go_on_as_if_nothing_had_been(bad):
    """Update 0, state as before; the next finite gradient meets the state it would have met."""
    tx = add_lstm(meta_params_of(NETWORK), NETWORK, nonfinite="skip")
    update = jax.jit(tx.update)
    _, state = update(draw(1), tx.init(draw(0)))
    sick = draw(2) | {"b": draw(2)["b"].at[1].set(bad)}
    skipped, after = update(sick, state)
    healthy, after_healthy = update(draw(2), state)
    assert skipped["b"][1] == 0
    assert skipped["b"][0] == healthy["b"][0]
    np.testing.assert_array_equal(skipped["w"], healthy["w"])
    pairs = zip(jax.tree.leaves(after.carry), jax.tree.leaves(after_healthy.carry), strict=True)
    for (mine, theirs), before in zip(pairs, jax.tree.leaves(state.carry), strict=True):
        if mine.ndim == 2:  # [hidden, 2]: the vector's
            np.testing.assert_array_equal(mine[:, 1], before[:, 1])
            np.testing.assert_array_equal(mine[:, 0], theirs[:, 0])
        else:
            np.testing.assert_array_equal(mine, theirs)
    assert after.count == after_healthy.count == 2


def test_skipping_covers_gradients_that_only_the_network_cannot_hold():
    """A float64 that float32 has no room for, and a product that overflows."""
    with jax.enable_x64(True):
        tx = bounded_linear(-1.0, nonfinite="skip")
        gradient = jnp.array([1e300, 2.0])
        assert tx.update(gradient, tx.init(gradient))[0].tolist() == [0.0, -0.5]
    tx = bounded_linear(1e30, nonfinite="skip")
    gradient = jnp.float32([1e20, 4e-30])
    np.testing.assert_allclose(tx.update(gradient, tx.init(gradient))[0], [0.0, 1.0], rtol=1e-6)


def test_skipping_keeps_the_meta_gradient_finite():
    """The derivative with respect to the weights is that of the other coordinates alone."""

    def total(meta_params, gradient):
        tx = add_lstm(meta_params, NETWORK, nonfinite="skip")
        first, state = tx.update(gradient, tx.init(gradient))
        second, _ = tx.update(gradient, state)
        return sum(jnp.sum(leaf) for leaf in (first, second))

    grad = jax.jit(jax.grad(total))
    sick = grad(meta_params_of(NETWORK), jnp.float32([0.5, jnp.nan, jnp.inf, -2.0]))
    alone = grad(meta_params_of(NETWORK), jnp.float32([0.5, -2.0]))
    chex.assert_trees_all_close(sick, alone, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("nonfinite", ["propagate", "skip"])
def test_a_coordinate_without_gradient_can_be_held(nonfinite):
    """It stands still and its state waits; by default a network with an offset moves it on."""
    drifting = bounded_linear(-1.0, offset=2.0)
    assert drifting.update(jnp.zeros(1), drifting.init(jnp.zeros(1)))[0] == 0.5
    tx = add_lstm(meta_params_of(NETWORK), NETWORK, nonfinite=nonfinite, hold_zeros=True)
    seen, alone = tx.init(jnp.zeros(2)), tx.init(jnp.zeros(1))
    update = jax.jit(tx.update)
    for gradient in (0.5, 0.0, -2.0, 0.0):
        updates, seen = update(jnp.float32([gradient, 0.0]), seen)
        assert updates[1] == 0
        if gradient:
            expected, alone = update(jnp.float32([gradient]), alone)
            np.testing.assert_allclose(updates[0], expected[0], rtol=1e-5)
        else:
            assert updates[0] == 0
    for both, one in zip(jax.tree.leaves(seen.carry), jax.tree.leaves(alone.carry), strict=True):
        np.testing.assert_allclose(both[:, :1], one, rtol=1e-5)
        assert not both[:, 1].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_update": 0.0}, "max_update must be a finite number above 0, got 0.0"),
        ({"max_update": -1}, "max_update must be"),
        ({"max_update": float("nan")}, "max_update must be"),
        ({"max_update": float("inf")}, "max_update must be"),
        ({"max_update": "0.1"}, "max_update must be"),
        ({"max_update": True}, "max_update must be"),
        ({"max_update": jnp.ones(2)}, "max_update must be"),
        ({"nonfinite": "zero"}, "nonfinite must be one of"),
        ({"nonfinite": None}, "nonfinite must be one of"),
        ({"hold_zeros": 1}, "hold_zeros must be True or False, got 1"),
        ({"block_size": 2.0}, "block_size must be"),
    ],
)
def test_options_of_another_kind_are_refused(options, message):
    """By `scale_by_lstm` and, before any meta-parameters are made, by `lstm`."""
    with pytest.raises(ValueError, match=message):
        scale_by_lstm(meta_params_of(NETWORK), NETWORK, **options)
    with pytest.raises(ValueError, match=message):
        lstm((3,), **options)


def test_a_network_of_another_kind_is_refused():
    """With its value."""
    with pytest.raises(TypeError, match="network must be a CoordinatewiseLSTM, got 'lstm'"):
        scale_by_lstm(meta_params_of(NETWORK), "lstm")  # pyright: ignore[reportArgumentType]
