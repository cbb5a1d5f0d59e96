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

from l2ljax.optimizers import lstm, partition
from l2ljax.optimizers.preprocess import identity, log_sign


def by_rank(params):
    """Labels for any tree: what a partition needs that must meet all of them."""
    return jax.tree.map(lambda leaf: "matrix" if jnp.ndim(leaf) > 1 else "vector", params)


CASES = {
    "lstm": lstm((4,)),
    "lstm-two-layers": lstm((4, 3), preprocess=log_sign(5.0)),
    "lstm-identity": lstm((4,), preprocess=identity(), output_scale=1.0),
    "lstm-no-layer": lstm(()),
    "lstm-bfloat16-state": lstm((4,), state_dtype=jnp.bfloat16),
    "lstm-blocks": lstm((4,), block_size=24),  # the matrix in two blocks
    "lstm-bounded": lstm((4,), output_scale=1.0, max_update=0.01),
    "lstm-skip": lstm((4,), nonfinite="skip", block_size=24),
    "lstm-hold": lstm((4,), hold_zeros=True, block_size=24),
    "partition": partition({"matrix": lstm((4,), identity()), "vector": lstm((4,))}, by_rank),
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
    return optimizer.transform(fresh_meta_params(optimizer))


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
