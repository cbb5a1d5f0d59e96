"""Layers of a convolutional classifier, written for many networks at once on any device.

On CPU, XLA's own convolution takes several times as long where `jax.vmap` over kernels makes it a
grouped one, and longer still inside a loop such as the one over inner steps; the gradient of
`reduce_window` is slow there too. So these are matrix products, slices and sums: their time is
linear in the number of networks, in a loop or not.
"""

import math

import jax
import jax.numpy as jnp


def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Cross-correlation with stride 1 and zeros around the images ("SAME").

    The columns of a window go into the matrix product's input and its rows into the output, where
    shifted slices are summed: a fifth of the memory of whole 5 x 5 windows laid side by side.

    Args:
        images: `[n, height, width, in]`.
        kernel: `[rows, columns, in, out]`.

    Returns:
        `[n, height, width, out]`.

    Example:
        >>> ones = jnp.ones((1, 3, 3, 1))
        >>> convolve(ones, ones.reshape(3, 3, 1, 1))[0, :, :, 0].tolist()
        [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    n, height, width, _ = images.shape
    rows, columns, _, out = kernel.shape
    above, left = (rows - 1) // 2, (columns - 1) // 2
    around = ((0, 0), (above, rows - 1 - above), (left, columns - 1 - left), (0, 0))
    padded = jnp.pad(images, around)
    windows = jnp.concatenate([padded[:, :, j : j + width] for j in range(columns)], axis=-1)
    matrix = kernel.transpose(1, 2, 0, 3).reshape(-1, rows * out)
    products = windows.reshape(-1, matrix.shape[0]) @ matrix
    products = products.reshape(n, height + rows - 1, width, rows, out)
    return sum(
        (products[:, i : i + height, :, i] for i in range(1, rows)), products[:, :height, :, 0]
    )


def max_pool(images: jax.Array) -> jax.Array:
    """The largest of each 2 x 2 block; a last odd row or column is left out.

    Where two values of a block tie, each gets half of the gradient.

    Args:
        images: `[n, height, width, channels]`.

    Returns:
        `[n, height // 2, width // 2, channels]`.

    Example:
        >>> max_pool(jnp.arange(12.0).reshape(1, 3, 4, 1)).ravel().tolist()
        [5.0, 7.0]
    """
    n, height, width, channels = images.shape
    height, width = height // 2, width // 2
    blocks = images[:, : 2 * height, : 2 * width].reshape(n, height, 2, width, 2, channels)
    of_rows = jnp.maximum(blocks[:, :, 0], blocks[:, :, 1])
    return jnp.maximum(of_rows[:, :, :, 0], of_rows[:, :, :, 1])


def batch_normalise(
    x: jax.Array, scale: jax.Array, offset: jax.Array, epsilon: float = 1e-5
) -> jax.Array:
    """Each channel to mean 0 and variance 1 over the batch, then scaled and shifted.

    Ioffe and Szegedy (2015), arXiv:1502.03167, algorithm 1, always with the statistics of the given
    batch: there are no running averages, hence no state.

    Args:
        x: `[n, ..., channels]`.
        scale: `[channels]` [gamma].
        offset: `[channels]` [beta].
        epsilon: added to the variance.

    Returns:
        an array like `x`.

    Example:
        >>> x = jnp.array([[1.0], [3.0]])
        >>> [round(float(y), 3) for y in batch_normalise(x, jnp.full(1, 2.0), jnp.ones(1))[:, 0]]
        [-1.0, 3.0]
    """
    axes = tuple(range(x.ndim - 1))
    centered = x - x.mean(axes)
    variance = jnp.square(centered).mean(axes)
    return centered * (scale * jax.lax.rsqrt(variance + epsilon)) + offset


def layer_normalise(
    x: jax.Array, scale: jax.Array, offset: jax.Array, epsilon: float = 1e-5
) -> jax.Array:
    """Each example's channels to mean 0 and variance 1 (Ba et al. 2016, arXiv:1607.06450).

    Args:
        x: `[..., channels]`.
        scale, offset: `[channels]`.
        epsilon: added to the variance.

    Example:
        >>> x = jnp.array([[1.0, 3.0]])
        >>> [round(float(y), 3) for y in layer_normalise(x, jnp.ones(2), jnp.zeros(2))[0]]
        [-1.0, 1.0]
    """
    centered = x - x.mean(axis=-1, keepdims=True)
    variance = jnp.square(centered).mean(axis=-1, keepdims=True)
    return centered * jax.lax.rsqrt(variance + epsilon) * scale + offset


def strided_convolve(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Cross-correlation with zeros around the images as XLA's "SAME" puts them, by patches.

    Args:
        images: `[n, height, width, in]`.
        kernel: `[rows, columns, in, out]`.
        stride: of both axes.

    Returns:
        `[n, ceil(height / stride), ceil(width / stride), out]`.

    Example:
        >>> ones = jnp.ones((1, 4, 4, 1))
        >>> strided_convolve(ones, jnp.ones((3, 3, 1, 1)), 2)[0, :, :, 0].tolist()
        [[9.0, 6.0], [6.0, 4.0]]
    """
    rows, columns, depth, out = kernel.shape
    sizes = [-(-n // stride) for n in images.shape[1:3]]
    missing = [
        max(0, (m - 1) * stride + k - n)
        for m, k, n in zip(sizes, (rows, columns), images.shape[1:3], strict=True)
    ]
    around = [(0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)]
    padded = jnp.pad(images, around)
    height, width = ((m - 1) * stride + 1 for m in sizes)
    patches = [
        padded[:, i : i + height : stride, j : j + width : stride]
        for i in range(rows)
        for j in range(columns)
    ]
    return jnp.concatenate(patches, axis=-1) @ kernel.reshape(rows * columns * depth, out)


def truncated_kernel(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A kernel `[..., out]`: normal with 1 / sqrt(fan_in), cut at two standard deviations.

    Not rescaled after the cut, as Haiku's layers start (the standard deviation is then 0.88 of it).

    Example:
        >>> kernel = truncated_kernel(jax.random.key(0), (100, 50))
        >>> kernel.shape, bool(abs(kernel).max() <= 0.2)
        ((100, 50), True)
    """
    return jax.random.truncated_normal(key, -2.0, 2.0, shape) / math.sqrt(math.prod(shape[:-1]))
