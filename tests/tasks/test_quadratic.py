"""f(theta) = ||W theta - y||^2 with normal W, y and theta_0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax.tasks import quadratic
from l2ljax.tasks._quadratic import Quadratic


def test_loss_is_the_sum_of_squares():
    rng = np.random.default_rng(0)
    matrix, target, theta = rng.normal(size=(4, 4)), rng.normal(size=4), rng.normal(size=4)
    expected = sum(
        (sum(matrix[i, j] * theta[j] for j in range(4)) - target[i]) ** 2 for i in range(4)
    )
    instance = Quadratic(jnp.float32(matrix), jnp.float32(target))
    np.testing.assert_allclose(quadratic(dim=4).loss(jnp.float32(theta), instance), expected, 1e-5)


def test_the_paper_has_ten_dimensions():
    task = quadratic()
    instance = task.sample(task.data, jax.random.key(0))
    theta = task.init(instance, jax.random.key(1))
    assert (instance.matrix.shape, instance.target.shape, theta.shape) == ((10, 10), (10,), (10,))


SCALES = {"unit": {}, "given": {"matrix_scale": 0.5, "target_scale": 2.0, "init_scale": 3.0}}


@pytest.mark.parametrize("scales", SCALES.values(), ids=SCALES.keys())
def test_entries_are_independent_normals_of_the_given_scales(scales):
    """Within 5 standard errors: of the mean s / sqrt(n), of the variance s^2 sqrt(2 / n), of the
    fourth moment s^4 sqrt(96 / n), and of a correlation 1 / sqrt(functions)."""
    task, functions = quadratic(dim=5, **scales), 2000

    def draw(key):
        sample_key, init_key = jax.random.split(key)
        instance = task.sample(task.data, sample_key)
        return *instance, task.init(instance, init_key)

    draws = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), functions))
    names = ("matrix_scale", "target_scale", "init_scale")
    for entries, scale in zip(draws, [scales.get(name, 1.0) for name in names], strict=True):
        z, n = np.asarray(entries, np.float64).ravel() / scale, entries.size
        assert abs(z.mean()) < 5 / n**0.5
        assert abs((z**2).mean() - 1) < 5 * (2 / n) ** 0.5
        assert abs((z**4).mean() - 3) < 5 * (96 / n) ** 0.5
    entries = np.concatenate([np.reshape(x, (functions, -1)) for x in draws], axis=1)
    correlations = np.corrcoef(entries, rowvar=False) - np.eye(entries.shape[1])
    assert np.abs(correlations).max() < 5 / functions**0.5


def test_an_init_scale_of_zero_starts_at_the_origin():
    task = quadratic(dim=3, init_scale=0.0)
    np.testing.assert_array_equal(task.init((), jax.random.key(0)), np.zeros(3))


def test_the_least_squares_solution_is_the_minimum():
    """There f is 0 (W is square), its gradient too, and f grows as ||W (theta - theta*)||^2."""
    with jax.enable_x64(True):
        task = quadratic(dim=6)
        instance = task.sample(task.data, jax.random.key(0))
        best = np.linalg.lstsq(*map(np.asarray, instance))[0]
        loss, gradient = jax.value_and_grad(task.loss)(jnp.asarray(best), instance)
        np.testing.assert_allclose(loss, 0, atol=1e-18)
        np.testing.assert_allclose(gradient, np.zeros(6), atol=1e-9)
        step = np.random.default_rng(0).normal(size=6)
        growth = np.linalg.norm(instance.matrix @ step) ** 2
        np.testing.assert_allclose(task.loss(best + step, instance), growth, rtol=1e-9)


@pytest.mark.parametrize("dim", [0, -1, 2.0, True, None])
def test_refuses_a_dim_that_is_no_positive_integer(dim):
    with pytest.raises(ValueError, match="dim must be an integer of at least 1, got"):
        quadratic(dim=dim)
