"""RNNProp's moments are coordinatewise too: the recorded backward pass serves it as it does `lstm`.

Its own windows against a Python loop, and chunks against the scan, are lines of
`window_cases.COORDINATEWISE`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from recorded_cases import LABELS, assert_same, meta_gradient, problem

from l2ljax import Task, partition, rnnprop, wrap
from l2ljax.estimators import truncated_bptt
from l2ljax.optimizers import lstm

SMALL = rnnprop((2,), b1=0.5, b2=0.8)


def skipping(tx):
    """`tx`, which is given 0 where a gradient is not finite, and then moves nothing there."""

    def update(updates, state, params=None, **extra):
        fine = jax.tree.map(jnp.isfinite, updates)
        seen = jax.tree.map(lambda g, f: jnp.where(f, g, 0), updates, fine)
        stepped, state = tx.update(seen, state, params, **extra)
        return jax.tree.map(lambda u, f: jnp.where(f, u, 0), stepped, fine), state

    return optax.GradientTransformationExtraArgs(tx.init, update)


CASES = {
    "constant": rnnprop((2,), bias_correction="constant"),
    "with-lstm": partition({"a": SMALL, "b": lstm((2,))}, LABELS["rank"]),
    "wrapped": wrap(SMALL, lambda tx: optax.chain(optax.clip(0.5), tx, optax.scale(2.0)), True),
    "skip": wrap(SMALL, skipping, True),
}


@pytest.mark.parametrize("name", CASES)
def test_recorded_equals_scan(name):
    """In chunks of three coordinates, one coordinate of one optimizee with a NaN gradient.

    Without "skip" that optimizee is left out; with it every optimizee is fine.
    """
    task = problem([(2, 3), (3,)], [jnp.float32] * 2, poison=True)
    _, gradient, diverged = assert_same(task, CASES[name], chunk_size=3)
    assert all(np.isfinite(g).all() and np.any(g) for g in jax.tree.leaves(gradient))
    assert (0 < (np.asarray(diverged) >= 0).sum() < 3) == (name != "skip")


def test_auto_is_the_recorded_pass_and_a_share_of_the_coordinates_is_unbiased():
    """Two coordinates, one of which is visited: the mean over the two draws is the whole."""
    task = problem([(2,)], [jnp.float32])
    whole = meta_gradient(task, SMALL, "auto", num_tasks=1)[1]
    estimator = truncated_bptt(
        task, SMALL, num_tasks=1, episode_length=3, unroll_length=3, coordinate_share=0.5
    )
    assert estimator.backward == "recorded"
    # The scan's meta-gradient, by coordinates: each alone trains, and the other's loss is constant.
    by_coordinate = []
    for i in range(2):
        kept = jnp.arange(2) == i

        def loss(params, batch, kept=kept):
            held = {"l0": jnp.where(kept, params["l0"], jax.lax.stop_gradient(params["l0"]))}
            return task.loss(held, batch)

        alone = Task(init=task.init, sample=task.sample, loss=loss)
        by_coordinate.append(flat(meta_gradient(alone, SMALL, "scan", num_tasks=1)[1]))
    np.testing.assert_allclose(sum(by_coordinate), flat(whole), rtol=1e-4, atol=1e-5)

    meta_params = SMALL.init(jax.random.key(0))
    state = estimator.init(jax.random.key(1), meta_params)
    estimate = jax.jit(lambda key: estimator.estimate(meta_params, state, key)[1])
    sampled = flat(estimate(jax.random.key(5)))
    nearest = min(np.abs(2 * g - sampled).max() for g in by_coordinate)
    assert nearest < 1e-4 * np.abs(sampled).max()


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
