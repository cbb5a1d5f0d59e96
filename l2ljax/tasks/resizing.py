"""Smaller images: what makes optimizees cheap enough to train thousands of."""

import jax

from l2ljax.base import PyTree
from l2ljax.checks import check_positive_int
from l2ljax.tasks.data import Images, check_images
from l2ljax.tasks.minibatch import as_float


def resized(dataset: PyTree, size: int, *, grey: bool = False) -> Images:
    """Square images of another size, bilinear, as floats in [0, 1] where they were uint8.

    Pixels are interpolated between their two neighbours in each direction, without a low-pass
    filter before, as TensorFlow's `tf.image.resize` does; then, where asked for, the mean over
    channels is taken.

    Args:
        dataset: `(images, labels)`, images `[n, height, width, channels]`.
        size: height and width of the result.
        grey: one channel, the mean.

    Returns:
        `Images` with float32 images `[n, size, size, channels or 1]`.

    Raises:
        ValueError: for a size that is no positive integer, or images of other shapes.

    Example:
        >>> import jax.numpy as jnp
        >>> white = (jnp.full((3, 8, 8, 3), 255, jnp.uint8), jnp.arange(3))
        >>> resized(white, 4, grey=True).images.shape
        (3, 4, 4, 1)
    """
    check_positive_int("size", size)
    images, labels = check_images(dataset)
    if images.ndim != 4:
        raise ValueError(f"images must be [n, height, width, channels], got shape {images.shape}.")

    def one(image: jax.Array) -> jax.Array:
        shape = (size, size, image.shape[-1])
        small = jax.image.resize(as_float(image), shape, "bilinear", antialias=False)
        return small.mean(axis=-1, keepdims=True) if grey else small

    return Images(jax.lax.map(one, images, batch_size=1000), labels)
