"""Newton-Schulz against NumPy's singular values, to which its polynomial is applied in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax.optimizers.newton_schulz import COEFFICIENTS, newton_schulz


def test_newton_schulz_keeps_singular_vectors_and_levels_values():
    """Against NumPy's decomposition: the same vectors, values in [0.6, 1.3]."""
    x = np.random.default_rng(0).normal(size=(3, 4, 7)).astype(np.float32)
    for matrix in (x, np.swapaxes(x, 1, 2)):
        u, values, v = np.linalg.svd(matrix, full_matrices=False)
        inside = np.swapaxes(u, 1, 2) @ np.asarray(newton_schulz(jnp.asarray(matrix)))
        inside = inside @ np.swapaxes(v, 1, 2)
        levelled = np.diagonal(inside, axis1=1, axis2=2)
        assert values.max() / values.min() > 2
        assert (levelled > 0.6).all()
        assert (levelled < 1.3).all()
        np.testing.assert_allclose(inside, levelled[:, :, None] * np.eye(4), atol=1e-4)


def by_values(matrix, num_iterations):
    """The polynomial, of singular values alone."""
    a, b, c = COEFFICIENTS
    u, values, v = np.linalg.svd(np.asarray(matrix, np.float64), full_matrices=False)
    values /= np.sqrt((values**2).sum())
    for _ in range(num_iterations):
        values = a * values + b * values**3 + c * values**5
    return (u * values) @ v


@pytest.mark.parametrize("num_iterations", [1, 5, 6, 12])
@pytest.mark.parametrize("shape", [(5, 7), (5, 10), (40, 4), (1, 3), (16, 16)])
@pytest.mark.parametrize("spread", [1.0, 1e-4, 0.0])
def test_every_shape_has_the_polynomial_of_its_values(shape, spread, num_iterations):
    """Whether the matrix or its Gram matrix is iterated; also where values are small, or 0.

    A value of 1e-4 is known to about 1e-7, and is 3.4445 times as large after each iteration.
    """
    rng = np.random.default_rng(0)
    u, values, v = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    values = np.geomspace(1, spread, len(values)) if spread else np.eye(len(values))[0]
    matrix = jnp.asarray((u * values) @ v, jnp.float32)
    found = jax.jit(newton_schulz, static_argnums=1)(matrix, num_iterations)
    if spread or num_iterations <= 6:  # then rounding has not grown to anything
        np.testing.assert_allclose(found, by_values(matrix, num_iterations), atol=2e-3)
    assert np.isfinite(found).all()


def test_a_batch_is_its_matrices():
    """Tall ones, whose Gram matrix is iterated, beside each by itself."""
    x = jax.random.normal(jax.random.key(0), (3, 9, 2))
    np.testing.assert_allclose(newton_schulz(x), jax.lax.map(newton_schulz, x), atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 4), (3, 7), (7, 3)])
def test_its_derivative_is_its_slope(shape):
    """Against central differences, along one direction."""
    x, along, weights = jax.random.normal(jax.random.key(0), (3, *shape))
    _, slope = jax.jvp(lambda x: (newton_schulz(x) * weights).sum(), (x,), (along,))
    ends = [float((newton_schulz(x + h * along) * weights).sum()) for h in (1e-2, -1e-2)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-2, rtol=2e-2)
