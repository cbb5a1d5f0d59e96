"""Hyperparameters of float64, as NumPy and x64 mode make them, beside a state in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import l2ljax
from l2ljax import optimizers

CASES = {  # rule -> arguments of the builder that `scale_by_...` takes too
    "rnnprop": {"b1": 0.9, "b2": 0.99, "eps": 1e-12},
    "rnnprop-constant": {"bias_correction": "constant"},
    "small_fc": {"block_size": 8},  # the network sees the matrix block by block
    "celo2": {"vectors": "network"},
    "nominal": {"averaged": True, "rate": -5.0, "span": 6.0, "limit": 4.0, "noise_limit": 2.0},
    "celo": {"num_steps": 50, "step_scale": 0.01},
    "celo_adam": {"num_steps": 50, "step_scale": 0.01},
    "velo": {"num_steps": 50, "step_scale": 0.01},
}
STATIC = ("num_steps", "block_size")
PARAMS = {"w": np.linspace(-1, 1, 128).reshape(8, 16), "b": np.linspace(0, 1, 3)}


def rule_of(case):
    """`scale_by_...`, fresh meta-parameters and the arguments."""
    name, given = case.split("-")[0], CASES[case]
    builder = getattr(optimizers, name)
    meta_params = builder(**given).init(jax.random.key(0))
    return getattr(optimizers, f"scale_by_{name}"), meta_params, given


def stepped(tx, dtype):
    """Two compiled steps: updates, and the dtypes of the state before, between and after."""
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), PARAMS)
    update, state = jax.jit(tx.update), tx.init(params)
    updates, dtypes = [], [dtypes_of(state)]
    for scale in (1.0, -0.5):
        gradient = jax.tree.map(lambda x, s=scale: s * x, params)
        step, state = update(gradient, state, params, value=jnp.float32(1.0))
        updates.append(step)
        dtypes.append(dtypes_of(state))
    return updates, dtypes


def dtypes_of(state):
    """Of all but what `inject_hyperparams` keeps of its own."""
    return [leaf.dtype.name for leaf in jax.tree.leaves(getattr(state, "inner_state", state))]


@pytest.mark.parametrize("case", CASES)
def test_injected_float64_leaves_the_state_in_float32(case):
    """float64 parameters make arrays of float64 of the numbers; steps are those of floats."""
    scale_by, meta_params, given = rule_of(case)
    static = tuple(name for name in STATIC if name in given)
    with jax.enable_x64(True):
        tx = optax.inject_hyperparams(scale_by, static_args=static)(meta_params, **given)
        updates, (before, *after) = stepped(tx, jnp.float64)
        expected, _ = stepped(scale_by(meta_params, **given), jnp.float64)
    assert set(before) <= {"float32", "int32"}
    assert after == [before, before]
    for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        assert a.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_numpys_float64_is_pythons_float(case):
    """To the last bit, and in x64 mode too."""
    scale_by, meta_params, given = rule_of(case)
    ours = {k: np.float64(v) if isinstance(v, float) else v for k, v in given.items()}
    with jax.enable_x64(True):
        updates, dtypes = stepped(scale_by(meta_params, **ours), jnp.float32)
        expected, others = stepped(scale_by(meta_params, **given), jnp.float32)
    assert dtypes == others
    jax.tree.map(np.testing.assert_array_equal, updates, expected)


def test_a_length_that_is_told_in_float64_leaves_the_state_in_float32():
    """`nominal`'s steps are those of the same length as an int."""
    meta_params = optimizers.nominal(num_steps=50, averaged=True).init(jax.random.key(0))
    tx = optimizers.scale_by_nominal(meta_params, num_steps=50, averaged=True)
    params = jax.tree.map(jnp.asarray, PARAMS)
    expected, _ = tx.update(params, tx.init(params), params, num_steps=7)
    with jax.enable_x64(True):
        for told in (np.float64(7), jnp.float64(7)):
            state = tx.init(params)
            updates, after = tx.update(params, state, params, num_steps=told)
            assert dtypes_of(after) == dtypes_of(state)
            jax.tree.map(np.testing.assert_array_equal, updates, expected)


@pytest.mark.parametrize("decay", [np.float64(0.5), jnp.float32(0.5)], ids=["numpy", "array"])
def test_a_guards_decay_leaves_its_averages_in_float32(decay):
    """The steps and the state are those of a Python float, compiled too."""

    def run(decay):
        tx = l2ljax.guard(optax.sgd(0.1), optax.adam(1e-3), decay=decay)
        return stepped(tx, jnp.float32)

    with jax.enable_x64(True):
        updates, (before, *after) = run(decay)
        expected, _ = run(0.5)
    assert after == [before, before]
    jax.tree.map(np.testing.assert_array_equal, updates, expected)
