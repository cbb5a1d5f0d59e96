"""OptList against the official code's numbers, and against Adam where they are the same rule."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.evaluation.optlist import OPTLIST, Configuration, nadamw, optlist

REFERENCE = Path(__file__).parents[3] / "shared" / "zoo" / "reference" / "optlist_nadamw.npz"


def by_path(arrays, prefix):
    """`prefix/leaf` -> array, as a dict of leaves."""
    found = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    assert found, prefix
    return found


@pytest.mark.parametrize("problem", ["P1", "P2", "P3"])
@pytest.mark.parametrize("num_steps", [12, 1000])
@pytest.mark.parametrize("entry", [0, 1, 7])
def test_steps_are_the_official_codes(entry, num_steps, problem):
    """Differences are relative to how far the parameters have moved."""
    if not REFERENCE.exists():
        pytest.skip(f"the official code's numbers are not at hand in {REFERENCE}")
    arrays = np.load(REFERENCE)
    run = f"params/{problem}_e{entry}_T{num_steps}/"
    if not any(k.startswith(run) for k in arrays):
        pytest.skip(f"no run {run}")
    params = {k: jnp.asarray(v) for k, v in by_path(arrays, f"theta0/{problem}/").items()}
    start = params
    gradients, expected = by_path(arrays, f"grads/{problem}/"), by_path(arrays, run)
    tx = optlist(entry, num_steps)
    state, update = tx.init(params), jax.jit(tx.update)
    for t in range(12):
        updates, state = update({k: jnp.asarray(v[t]) for k, v in gradients.items()}, state, params)
        params = optax.apply_updates(params, updates)
        for name, leaf in params.items():
            moved = np.abs(expected[name][t] - np.asarray(start[name])).max(initial=0)
            np.testing.assert_allclose(
                leaf, expected[name][t], rtol=3e-7, atol=1e-4 * moved + 1e-7, err_msg=f"{name} {t}"
            )


def test_without_decay_and_schedule_it_is_adam():
    """With epsilon at the uncorrected root, which is Adam's with epsilon / sqrt(1 - b2^t)."""
    tx = nadamw(Configuration(0.01, 0.9, 0.99, 0.0), num_steps=100)
    adam = optax.adam(0.01, 0.9, 0.99, eps=0.0)
    params = jnp.array([1.0, -2.0])
    state, reference = tx.init(params), adam.init(params)
    for t in range(5):
        gradient = jnp.array([0.3, -1.0]) * (t + 1)
        ours, state = tx.update(gradient, state, params)
        theirs, reference = adam.update(gradient, reference, params)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_entries_that_are_not_there_are_refused():
    assert len(OPTLIST) == 10
    with pytest.raises(ValueError, match="entry"):
        optlist(10, 100)
    with pytest.raises(ValueError, match="update"):
        optlist(0, 100).update(jnp.ones(1), optlist(0, 100).init(jnp.ones(1)))
