"""Preprocessing: against the formula of Andrychowicz et al. (2016), Appendix A, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax.optimizers.preprocess import identity, log_sign

PS = (1.0, 5.0, 10.0, 80.0)
TINY = np.finfo(np.float32).tiny  # XLA may take what is smaller, the denormals, for 0


def magnitudes(p):
    """Both signs of 0, denormals, large and small values, and the neighbours of e^-p."""
    edge = np.float32(np.exp(-p))
    around = [edge * 0.999, np.nextafter(edge, 0), edge, np.nextafter(edge, 1), edge * 1.001]
    powers = [1e-45, 1e-40, 1e-37, 1e-30, 1e-12, 1e-6, 1e-3, 0.1, 0.7, 1.0, 3.0, 1e4, 1e30, 3e38]
    values = np.array([0.0, *powers, *around], np.float32)
    return np.concatenate([values, -values])


def formula(gradient, p):
    """(log|g| / p, sgn g) where |g| >= e^-p, else (-1, e^p g)."""
    gradient = np.asarray(gradient, np.float64)
    large = np.abs(gradient) >= np.exp(-p)
    log = np.log(np.where(large, np.abs(gradient), 1.0))
    return np.stack(
        [np.where(large, log / p, -1.0), np.where(large, np.sign(gradient), np.exp(p) * gradient)]
    )


@pytest.mark.parametrize("p", PS)
def test_log_sign_is_the_formula(p):
    """At every magnitude float32 has."""
    gradient = magnitudes(p)
    features = log_sign(p)(jnp.asarray(gradient))
    assert features.dtype == jnp.float32
    np.testing.assert_allclose(features, formula(gradient, p), rtol=2e-6, atol=np.exp(p) * TINY)


def test_log_sign_with_p_1():
    """Values one can read off the definition."""
    gradient = jnp.array([0.0, 0.1, -0.1, np.exp(-1) + 1e-6, 1.0, -1.0, np.e, -np.exp(2)])
    log_magnitude = [-1.0, -1.0, -1.0, -1.0, 0.0, 0.0, 1.0, 2.0]
    sign = [0.0, 0.1 * np.e, -0.1 * np.e, 1.0, 1.0, -1.0, 1.0, -1.0]
    np.testing.assert_allclose(log_sign(1.0)(gradient), [log_magnitude, sign], atol=1e-5)


@pytest.mark.parametrize("p", PS)
def test_log_sign_has_the_formulas_derivative(p):
    """(1 / (p g), 0) or (0, e^p): finite everywhere, 0 and denormals and 1e30 included."""
    gradient = magnitudes(p)
    gradient = gradient[np.abs(np.abs(gradient) / np.exp(-p) - 1) > 1e-4]  # the kink is either
    large = np.abs(gradient) >= np.exp(-p)
    with np.errstate(divide="ignore"):
        log_slope = np.where(large, 1 / (p * np.float64(gradient)), 0.0)
    expected = np.stack([log_slope, np.where(large, 0.0, np.exp(p))])
    tangent = jnp.ones(gradient.shape)
    _, forward = jax.jvp(log_sign(p), (jnp.asarray(gradient),), (tangent,))
    np.testing.assert_allclose(forward, expected, rtol=2e-6, atol=TINY)
    for feature in range(2):
        backward = jax.grad(lambda g, feature=feature: log_sign(p)(g)[feature].sum())
        slope = backward(jnp.asarray(gradient))
        np.testing.assert_allclose(slope, expected[feature], rtol=2e-6, atol=TINY)


def test_log_sign_of_a_nan_is_nan_and_of_an_infinity_is_large():
    """Nothing hides a non-finite gradient."""
    features = np.asarray(log_sign(10.0)(jnp.array([np.nan, np.inf, -np.inf])))
    assert np.isnan(features[:, 0]).any()
    np.testing.assert_array_equal(features[:, 1:], [[np.inf, np.inf], [1.0, -1.0]])


def test_identity_is_the_gradient():
    """One feature."""
    np.testing.assert_array_equal(identity()(jnp.array([-0.5, 1e30])), [[-0.5, np.float32(1e30)]])


@pytest.mark.parametrize("preprocess", [identity(), log_sign(10.0)], ids=repr)
def test_features_stack_on_a_new_first_axis_in_the_gradients_dtype(preprocess):
    """`num_features` of them, for one coordinate and for a parameter; coordinates stay alone."""
    gradient = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    features = preprocess(gradient)
    assert features.shape == (preprocess.num_features, 3, 4)
    np.testing.assert_array_equal(features[:, 2, 1], preprocess(gradient[2, 1]))
    for dtype in (jnp.float16, jnp.bfloat16):
        assert preprocess(gradient.astype(dtype)).dtype == dtype


def test_objects_are_equal_and_hash_by_value():
    """So equal ones are one static argument of `jax.jit`."""
    assert log_sign(10) == log_sign(10.0) != log_sign(5.0)
    assert identity() == identity() != log_sign(10.0)
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def features(preprocess, gradient):
        traces.append(preprocess)
        return preprocess(gradient)

    for preprocess in (log_sign(10), log_sign(10.0), identity(), identity()):
        features(preprocess, jnp.ones(2))
    assert traces == [log_sign(10.0), identity()]


@pytest.mark.parametrize("p", [0, -1.0, 80.5, float("inf"), float("nan"), "10", None])
def test_log_sign_refuses_a_bad_p(p):
    """In a sentence that names it."""
    with pytest.raises(ValueError, match=f"0 < p <= 80, got p={p!r}"):
        log_sign(p)
