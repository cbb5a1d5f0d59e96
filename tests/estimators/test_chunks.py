"""Chunks of coordinates, segments of steps: they change what is kept, not what is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax.base import CoordinateGroup
from l2ljax.estimators.chunks import scan_with_snapshots, vjp_over_chunks
from l2ljax.optimizers import lstm


@pytest.mark.parametrize("length", [1, 3, 4, 7, 9])
def test_a_scan_that_keeps_snapshots(length):
    """Carries before steps 0, length, 2 length ...; the rest is `lax.scan`'s."""
    xs = jnp.arange(1.0, 8.0)

    def step(carry, x):
        return carry + x, carry * x

    expected_carry, expected_ys = jax.lax.scan(step, 1.0, xs)
    carry, ys, kept = scan_with_snapshots(step, jnp.float32(1), xs, length, lambda c: {"c": -c})
    assert float(carry) == float(expected_carry) == 29
    np.testing.assert_array_equal(ys, expected_ys)
    sums = 1 + np.concatenate([[0], np.cumsum(xs)[:-1]])
    np.testing.assert_array_equal(kept["c"], -sums[::length])


@pytest.mark.parametrize("remat", ["none", "step", "nested"])
@pytest.mark.parametrize(("segment_length", "chunk_size"), [(1, 4), (3, 11), (5, 3), (7, 100)])
def test_the_vjp_is_that_of_all_steps_at_once(segment_length, chunk_size, remat):
    """Against `jax.vjp` through one scan over all coordinates, from the same start."""
    optimizer, num_steps, width = lstm((3, 2)), 7, 11
    vector, unravel = jax.flatten_util.ravel_pytree(optimizer.init(jax.random.key(0)))
    phi = unravel(vector + 0.3 * jax.random.normal(jax.random.key(1), vector.shape))
    gradients = jax.random.normal(jax.random.key(2), (num_steps, width))
    cotangents = jax.random.normal(jax.random.key(3), (num_steps, width))

    def run(phi):
        tx = optimizer.transform(phi)

        def step(state, gradient):
            update, state = tx.update(gradient, state)
            return state, update

        start = tx.init(gradients[0])
        _, updates, kept = scan_with_snapshots(
            step, start, gradients, segment_length, lambda state: state
        )
        return updates, kept

    @jax.jit
    def both(phi):
        _, vjp, kept = jax.vjp(run, phi, has_aux=True)
        ours = vjp_over_chunks(
            CoordinateGroup((0,), optimizer.transform),
            phi,
            kept,
            jnp.bool_(True),
            gradients,
            lambda cut: cut(cotangents),
            dtype=gradients.dtype,
            visit=jnp.ones(width, bool),
            segment_length=segment_length,
            chunk_size=chunk_size,
            remat=remat,
        )
        return vjp(cotangents)[0], ours

    for expected, actual in zip(*map(jax.tree.leaves, both(phi)), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
