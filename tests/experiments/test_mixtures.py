"""What the recommended optimizers are meta-trained with: what is told, and how steps weigh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax.experiments.mixtures import length_or_no_end, rising_to_the, suite_mixture
from l2ljax.optimizers import nominal

QUADRATIC = {"tasks": ["quadratic"], "num_tasks": 1, "num_perturbations": 1, "unroll_length": 4}


def test_one_length_in_four_has_no_end_and_others_are_told_as_they_are():
    lengths = jnp.arange(100, 2100)
    told = np.asarray(jax.vmap(length_or_no_end)(lengths))
    endless = np.isinf(told)
    assert abs(endless.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2000)  # four standard errors
    np.testing.assert_array_equal(told[~endless], np.asarray(lengths)[~endless])


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_weights_rise_as_the_share_of_the_episode_to_a_power(power):
    weights = np.array(rising_to_the(power)(np.arange(1, 51)))
    assert weights.mean() == pytest.approx(1)
    assert weights[-1] / weights[24] == pytest.approx(2.0**power)


def test_an_optimizer_is_told_drawn_lengths():
    """Its meta-gradient is finite, and another than that of one that goes on as it was built."""
    optimizer = nominal((4,), num_steps=2)  # all that is told is longer
    meta_params = jax.tree.map(lambda x: 3 * x, optimizer.init(jax.random.key(0)))
    found = []
    for tells in (True, False):
        estimator = suite_mixture(optimizer, shortest=8, longest=16, tells=tells, **QUADRATIC)
        state = estimator.init(jax.random.key(1), meta_params)
        _, grads, *_ = estimator.estimate(meta_params, state, jax.random.key(2))
        found.append(np.concatenate([np.ravel(g) for g in jax.tree.leaves(grads)]))
    assert np.isfinite(found).all()
    assert not np.allclose(*found, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tells": True}, "num_steps=1000"),
        ({"tells": True, "horizons": [8]}, "leave one of them out"),
        ({"tells": 1}, "tells"),
        ({"late": -1.0}, "late must be a number of at least 0"),
        ({"late": None}, "late must be a number of at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(options, told):
    with pytest.raises((TypeError, ValueError), match=told):
        suite_mixture(nominal((4,)), **QUADRATIC, **options)
