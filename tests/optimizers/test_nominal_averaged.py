"""Steps of `nominal` that are taken in parts, and sizes that are told from the first update on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.optimizers import nominal, scale_by_nominal

PARAMS = {"w": jnp.full((3, 5), 0.5), "b": jnp.zeros(5)}
RATE = float(np.exp(-6.0))
B, K = 0.8, 4.0
STEPS = 30


def adam_with(options, delay=()):
    """A network of zeros on Adam's direction alone, with what is asked for in the last biases."""
    optimizer = nominal((), **options)
    (layer,) = jax.tree.map(jnp.zeros_like, optimizer.init(jax.random.key(0)))["layers"]
    bias = layer["bias"].at[2:6].set(jnp.array([-99.0, 99.0, -99.0, -99.0]))
    if delay:
        bias = bias.at[-2:].set(jnp.array(delay))
    return optimizer, {"layers": [layer | {"bias": bias}]}


def gradients(steps=STEPS):
    rng = np.random.default_rng(2)
    return [
        jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), PARAMS)
        for _ in range(steps)
    ]


def path(tx, params=PARAMS):
    """Parameters before and after each update."""
    state, visited = tx.init(params), [params]
    for gradient in gradients():
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        visited.append(params)
    return visited


def test_steps_in_parts_are_schedule_free_averaging():
    """Beside its definition in float64: z takes Adam's steps, x averages z, y lies between."""
    optimizer, weights = adam_with({"averaged": True}, (float(np.log(B / (1 - B))), np.log(K)))
    found = path(optimizer.transform(weights))
    adam = path(optax.adam(RATE, b1=0.9, b2=0.999))
    for name, start in PARAMS.items():
        z = x = np.asarray(start, np.float64)
        for t in range(1, STEPS + 1):
            z = z + np.asarray(adam[t][name], np.float64) - np.asarray(adam[t - 1][name])
            c = K / (K + t)
            x = (1 - c) * x + c * z
            np.testing.assert_allclose(found[t][name], (1 - B) * z + B * x, rtol=2e-4, atol=2e-6)


def test_where_nothing_is_put_off_steps_are_whole():
    optimizer, weights = adam_with({"averaged": True}, (-99.0, 0.0))
    found, adam = path(optimizer.transform(weights)), path(optax.adam(RATE))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, adam)


@pytest.mark.parametrize("delay", [(-1.0, 0.0), (3.0, 1.5), (9.0, -2.0)])
def test_parts_of_steps_together_stay_within_the_bound_of_one(delay):
    """exp(rate + span) limit, at the largest size and with all gradients of one sign."""
    optimizer, weights = adam_with({"averaged": True}, delay)
    (layer,) = weights["layers"]
    weights = {"layers": [layer | {"bias": layer["bias"].at[0].set(99.0)}]}
    tx = optimizer.transform(weights)
    state, largest = tx.init(PARAMS), 0.0
    for t in range(STEPS):  # growing, so that the newest is far above the root of their power
        gradient = jax.tree.map(lambda p, t=t: jnp.full_like(p, 2.0**t), PARAMS)
        updates, state = tx.update(gradient, state, PARAMS)
        largest = max(largest, *(float(jnp.abs(u).max()) for u in jax.tree.leaves(updates)))
    assert 0 < largest <= np.exp(1.0) * 5.0 * (1 + 1e-5)


@pytest.mark.parametrize(("column", "of"), [(-2, "w"), (-1, "all")])
def test_sizes_are_told_as_they_were_at_the_first_update(column, of):
    """A coefficient on such a column makes Adam's steps longer by a factor of the start alone."""
    optimizer, weights = adam_with({"from_start": True})
    (layer,) = weights["layers"]
    kernel = layer["kernel"].at[column, 0].set(0.1)
    found = path(optimizer.transform({"layers": [layer | {"kernel": kernel}]}))
    plain = path(optax.adam(RATE))
    power = {"w": 0.25, "all": 0.25 * 15 / 20}[of]
    told = np.log(np.sqrt(power) + 1e-4) / 3
    factor = np.exp(7 * np.tanh(0.1 * told))
    for before, after in ((0, 1), (STEPS - 1, STEPS)):
        ours = np.asarray(found[after]["w"]) - np.asarray(found[before]["w"])
        adams = np.asarray(plain[after]["w"]) - np.asarray(plain[before]["w"])
        np.testing.assert_allclose(ours, factor * adams, rtol=5e-3, atol=1e-6)


def test_a_state_has_what_is_pending_only_where_steps_are_averaged():
    for options, numbers in (({}, 4), ({"averaged": True}, 5)):
        _, weights = adam_with(options)
        state = jax.eval_shape(scale_by_nominal(weights, **options).init, PARAMS)
        sizes = [
            leaf.size for leaf in jax.tree.leaves((state.momenta, state.second, state.pending))
        ]
        assert sum(sizes) == numbers * 20


@pytest.mark.parametrize("name", ["averaged", "from_start"])
def test_what_is_neither_true_nor_false_and_other_weights_are_refused(name):
    with pytest.raises(TypeError, match=f"{name} must be a bool, got 1"):
        nominal(**{name: 1})
    with pytest.raises(ValueError, match=name):
        scale_by_nominal(nominal(()).init(jax.random.key(0)), **{name: True})
