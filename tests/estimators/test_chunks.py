"""Chunks of coordinates, segments of steps: they change what is kept, not what is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.base import CoordinateGroup
from l2ljax.estimators.chunks import (
    CHUNK_BYTES,
    SNAPSHOT_BYTES,
    plan_chunks,
    scan_with_snapshots,
    vjp_over_chunks,
)
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
            visit=jnp.ones(width, bool),
            segment_length=segment_length,
            chunk_size=chunk_size,
            remat=remat,
        )
        return vjp(cotangents)[0], ours

    for expected, actual in zip(*map(jax.tree.leaves, both(phi)), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def states(*widths):
    """Shapes of a 2 x 20 LSTM's states: 320 bytes a coordinate."""
    optimizer = lstm((20, 20))
    phi = optimizer.init(jax.random.key(0))
    return tuple(
        jax.eval_shape(optimizer.transform(phi).init, jax.ShapeDtypeStruct((n,), jnp.float32))
        for n in widths
    )


def test_plans_keep_to_their_budgets():
    """Snapshots and chunks as large as fit, activations before states before nested segments."""
    for num_steps in (1, 20, 100, 1000):
        for widths in ((10,), (15_910,), (12_000, 10_000), (10**6,)):
            plan = plan_chunks(states(*widths), num_steps)
            snapshots = -(-num_steps // plan.segment_length)
            assert snapshots == 1 or snapshots * 320 * sum(widths) <= SNAPSHOT_BYTES
            for size, remat in zip(plan.chunk_sizes, plan.remats, strict=True):
                steps = {"none": 4 * plan.segment_length, "step": plan.segment_length}
                if remat in steps:
                    assert size * steps[remat] * 320 <= CHUNK_BYTES
    assert plan_chunks(states(15_910), 20).segment_length == 5  # 4 x 5 MB
    assert plan_chunks(states(15_910), 20).remats == ("none",)
    assert plan_chunks(states(15_910), 1000).remats == ("nested",)
    assert plan_chunks(states(15_910 // 2), 20, num_parts=2) == (5, (512,), ("none",))


def test_a_plan_takes_what_is_given():
    """A chunk size and a choice of rematerialisation, each alone too."""
    assert plan_chunks(states(5000), 20, chunk_size=70, remat="step")[1:] == ((70,), ("step",))
    assert plan_chunks(states(5000), 20, remat="nested").remats == ("nested",)
    assert plan_chunks(states(100, 200), 20, chunk_size=7).chunk_sizes == (7, 7)
    counters = (jax.eval_shape(optax.sgd(0.1).init, jnp.zeros(3)),)
    assert plan_chunks(counters, 4).segment_length == 1  # no state, nothing to keep
