"""Layers of a convolutional classifier, written for many networks at once on any device.

On CPU, XLA's own convolution takes several times as long where `jax.vmap` over kernels makes it a
grouped one, and longer still inside a loop such as the one over inner steps; the gradient of
`reduce_window` is slow there too. So these are matrix products, slices and sums: their time is
linear in the number of networks, in a loop or not.
"""

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
