"""Image data sets as device arrays, through TFDS and without TensorFlow.

The only importer of tensorflow_datasets, and a lazy one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from l2ljax.base import PyTree


class Images(NamedTuple):
    """Labelled images: `images` `[n, height, width, channels]`, `labels` `[n]` int32."""

    images: jax.Array
    labels: jax.Array


def check_images(dataset: PyTree) -> Images:
    """`dataset` as `Images` on the device.

    Raises:
        ValueError: if it is not a pair of images and as many integer labels, at least one.
    """
    try:
        images, labels = map(jnp.asarray, dataset)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"dataset must be a pair (images, labels), got {type(dataset).__name__}; "
            "l2ljax.load_dataset returns one."
        ) from error
    fits = labels.ndim == 1 and images.ndim >= 2 and images.shape[:1] == labels.shape
    if not fits or labels.size == 0 or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            "dataset must hold images [n, ...] and integer labels [n] with n >= 1, got images "
            f"{images.shape} and labels {labels.shape} of dtype {labels.dtype}."
        )
    return Images(images, labels)
