"""Convolution, pooling and batch normalisation, against flax and NumPy."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax.tasks.layers import batch_normalise, convolve, max_pool


def normal(seed, *shape):
    return jnp.float32(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (3, 2)])
def test_convolution_and_its_gradient_are_those_of_flax(size):
    """Kernels odd and even, larger than the images too; images that are not square."""
    images, kernel, weights = normal(0, 2, 6, 4, 3), normal(1, *size, 3, 5), normal(2, 2, 6, 4, 5)
    reference = nn.Conv(5, size, padding="SAME", use_bias=False, precision="highest")

    def theirs(images, kernel):
        return jnp.sum(weights * reference.apply({"params": {"kernel": kernel}}, images))

    def ours(images, kernel):
        return jnp.sum(weights * convolve(images, kernel))

    actual = jax.value_and_grad(ours, (0, 1))(images, kernel)
    expected = jax.value_and_grad(theirs, (0, 1))(images, kernel)
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, 1e-4, 1e-4), actual, expected)
    assert convolve(images, kernel).shape == (2, 6, 4, 5)


def test_many_kernels_at_once_are_the_kernels_one_by_one():
    """And there is no convolution in the program, which vmap would turn into a grouped one."""
    images, kernels = normal(0, 3, 2, 4, 4, 2), normal(1, 3, 3, 3, 2, 5)
    each = [convolve(i, k) for i, k in zip(images, kernels, strict=True)]
    np.testing.assert_allclose(jax.vmap(convolve)(images, kernels), each, 1e-5, 1e-5)
    assert "convolution" not in jax.jit(jax.vmap(convolve)).lower(images, kernels).as_text()


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (2, 5, 3, 1), (1, 2, 2, 1)])
def test_pooling_is_that_of_flax(shape):
    """Where nothing ties, the gradient too."""
    images = normal(0, *shape)
    pool = functools.partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2))
    np.testing.assert_array_equal(max_pool(images), pool(images))
    gradients = [jax.grad(lambda x, f=f: jnp.sum(f(x) ** 2))(images) for f in (max_pool, pool)]
    np.testing.assert_array_equal(*gradients)


def test_ties_share_the_gradient():
    """Halves of each pair: a constant block gets a quarter each."""
    np.testing.assert_allclose(jax.grad(lambda x: max_pool(x).sum())(jnp.ones((1, 2, 2, 1))), 0.25)


@pytest.mark.parametrize("shape", [(6, 3), (4, 2, 5, 3)])
def test_batch_normalisation_is_numpys(shape):
    """(x - mean) / sqrt(variance + epsilon) * scale + offset over all axes but the last."""
    x, scale, offset = 7 + 3 * normal(0, *shape), normal(1, 3), normal(2, 3)
    flat = np.float64(x).reshape(-1, 3)
    expected = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-3) * scale + offset
    actual = batch_normalise(x, scale, offset, epsilon=1e-3)
    np.testing.assert_allclose(actual, expected.reshape(shape), 1e-4, 1e-4)


def test_a_constant_channel_becomes_its_offset_with_a_finite_gradient():
    """Its variance is 0; epsilon keeps the division defined."""
    x, offset = jnp.full((4, 2), 3.0), jnp.array([1.0, -2.0])
    np.testing.assert_array_equal(batch_normalise(x, jnp.ones(2), offset)[0], offset)
    gradient = jax.grad(lambda x: batch_normalise(x, jnp.ones(2), offset)[0, 0])(x)
    assert np.isfinite(gradient).all()
