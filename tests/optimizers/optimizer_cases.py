"""The learned optimizers that every test_optimizer_*.py holds to one contract.

A new learned optimizer joins with one line in `CASES`; its networks are kept tiny.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.optimizers import (
    celo,
    celo2,
    celo_adam,
    hyperparameters,
    log,
    logit,
    lstm,
    nominal,
    partition,
    rnnprop,
    small_fc,
)
from l2ljax.optimizers.preprocess import identity, log_and_sign, log_sign


def by_rank(params):
    """Labels for any tree: what a partition needs that must meet all of them."""
    return jax.tree.map(lambda leaf: "matrix" if np.ndim(leaf) > 1 else "vector", params)


CASES = {
    "lstm": lstm((4,)),
    "lstm-two-layers": lstm((4, 3), preprocess=log_sign(5.0)),
    "lstm-identity": lstm((4,), preprocess=identity(), output_scale=1.0),
    "lstm-no-layer": lstm(()),
    "lstm-bfloat16-state": lstm((4,), state_dtype=jnp.bfloat16),
    "lstm-blocks": lstm((4,), block_size=24),  # the matrix in two blocks
    "lstm-bounded": lstm((4,), output_scale=1.0, max_update=0.01),
    "lstm-skip": lstm((4,), nonfinite="skip", block_size=24),
    "lstm-kernel": lstm((4,), kernel="interpreted"),
    "lstm-reset": lstm((4,), preprocess=log_and_sign(5.0), reset_every=2),
    "hyperparameters": hyperparameters(
        optax.adam, {"learning_rate": log(1e-2), "b2": logit(0.9)}, spread=0.1, coordinatewise=True
    ),
    "hyperparameters-network": hyperparameters(
        optax.rmsprop, {"learning_rate": log(1e-2)}, "network", spread=0.1
    ),
    "lstm-hold": lstm((4,), hold_zeros=True, block_size=24),
    "partition": partition({"matrix": lstm((4,), identity()), "vector": lstm((4,))}, by_rank),
    "rnnprop": rnnprop((4,)),
    "rnnprop-constant": rnnprop((4, 3), bias_correction="constant", b1=0.9, block_size=24),
    "small_fc": small_fc((4, 4)),
    "small_fc-blocks": small_fc((4,), block_size=24),
    "celo2": celo2((4, 4), learning_rate=1e-4),  # the iteration makes more of rounding
    "celo2-network": celo2((4,), orthogonalize=False, vectors="network", block_size=24),
    "nominal": nominal((4,)),
    "nominal-averaged": nominal((4,), averaged=True, from_start=True, alone=True),
    "nominal-skip": nominal((4,), averaged=True, noise_limit=2, nonfinite="skip"),
    "nominal-directions": nominal((4,), directions=("tensor", "orthogonal", "orthogonal_adam")),
    "celo": celo(num_steps=100),
    "celo_adam": celo_adam(num_steps=100),
}

every_optimizer = pytest.mark.parametrize("optimizer", CASES.values(), ids=CASES.keys())


class Params(NamedTuple):
    """A matrix, a vector and a scalar: float32, but the tests cast it as they need."""

    matrix: jax.Array
    vector: jax.Array
    scalar: jax.Array


def draw(seed, dtype=jnp.float32):
    """Normal numbers shaped as the tests' parameters: their values, or one gradient of them."""
    normal = np.random.default_rng(seed).normal
    return Params(*(jnp.asarray(normal(size=shape), dtype) for shape in [(6, 8), (4,), ()]))


@functools.cache
def _jitted_init(optimizer):
    return jax.jit(optimizer.init)


@functools.cache
def fresh_meta_params(optimizer, seed=1):
    """What the optimizer's `init` gives for a key."""
    return _jitted_init(optimizer)(jax.random.key(seed))


@functools.cache
def fresh(optimizer):
    """The transformation with fresh meta-parameters."""
    return transformation(optimizer, fresh_meta_params(optimizer))


def transformation(optimizer, meta_params):
    """The optimizer's transformation; where it is not coordinatewise, parameters and loss are 1.

    The contract's tests pass them or not. What a rule makes of them is its own test's.
    """
    tx = optimizer.transform(meta_params)
    if optimizer.coordinate_groups is not None:
        return tx

    def update(updates, state, params=None, **extra_args):
        params = jax.tree.map(jnp.ones_like, updates)
        return tx.update(updates, state, params, **(extra_args | {"value": 1.0}))

    return optax.GradientTransformationExtraArgs(tx.init, update)


def needs_coordinates(optimizer):
    """Skips what holds for coordinatewise optimizers alone."""
    if optimizer.coordinate_groups is None:
        pytest.skip("not a coordinatewise optimizer")


@functools.cache
def jitted_update(optimizer):
    """`fresh(optimizer).update`, compiled once a tree for all tests."""
    return jax.jit(fresh(optimizer).update)


def run(update, state, gradients):
    """All updates of a run over a list of gradients, and the last state."""
    updates = []
    for gradient in gradients:
        update_t, state = update(gradient, state)
        updates.append(update_t)
    return updates, state


def stack(*leaves):
    """For `jax.tree.map`: trees as one tree with a new first axis."""
    return jnp.stack(leaves)


def counts(state):
    """Every `count` of the state: one, or one a member where the optimizer has members."""
    return [count for _, count in optax.tree.get_all_with_path(state, "count")]


def assert_close(actual, expected, rtol=1e-5, atol=1e-9):
    """Same structure, same dtypes, values within float32 rounding."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert jnp.result_type(a) == jnp.result_type(e)
        np.testing.assert_allclose(np.asarray(a, complex), np.asarray(e, complex), rtol, atol)
