"""Sums in one pass beside NumPy's in float64, and which axes have runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax.optimizers.sums import LONGEST_RUN, MOST_SUMS, SHORTEST_RUN, run_length, sum_in_runs


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2)])
def test_are_numpys_sums(axes):
    """Of more planes than one loop takes, some made of an array that is broadcast."""
    normal = np.random.default_rng(0).normal
    x, row = normal(size=(2, 3, 3000)), normal(size=(2, 3, 1))
    powers = range(1, MOST_SUMS + 3)
    given = [jnp.asarray(a, jnp.float32) for a in (x, row)]
    sums = jax.jit(
        lambda *given: sum_in_runs(
            lambda a: [a[1] * jnp.cos(power * a[0]) for power in powers], given, x.shape, axes
        )
    )(*given)
    expected = np.stack([row * np.cos(power * x) for power in powers])
    expected = expected.sum(tuple(axis + 1 for axis in axes), keepdims=True)
    np.testing.assert_allclose(sums, expected, rtol=1e-4, atol=2e-3)


def test_long_sums_of_equal_numbers_keep_their_digits():
    """One by one, float32 would be off by 1e-3 after 10 million of them."""
    x = jnp.full((10, 100_000), 0.1)
    total = sum_in_runs(lambda x: [x], x, x.shape, (0, 1))
    np.testing.assert_allclose(total, 1e6 * np.float64(np.float32(0.1)), rtol=5e-6)


@pytest.mark.parametrize("length", [1, 63, 64, 127, 1024, 1031, 3162, 50_257, 65_536])
def test_a_run_divides_the_axis_or_there_is_none(length):
    """The longest that fits."""
    fitting = [n for n in range(SHORTEST_RUN, LONGEST_RUN + 1) if length % n == 0]
    assert run_length((5, length)) == max(fitting, default=None)
