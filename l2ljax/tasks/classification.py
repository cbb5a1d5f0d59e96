"""What the image classifiers share: checked data, theta_0 and the loss."""

import math

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import Key, PyTree
from l2ljax.checks import check_positive_int
from l2ljax.tasks.data import Images, check_images


def check_classes(dataset: PyTree, num_classes: int | None) -> tuple[Images, int]:
    """The data set on the device, and the size of the classifier's output.

    Args:
        dataset: `(images, labels)` as `l2ljax.load_dataset` gives them.
        num_classes: size of the output, or `None` for the largest label + 1.

    Raises:
        ValueError: if images and labels do not belong together, or for a label that is negative or
            not below `num_classes`.

    Example:
        >>> check_classes((jnp.zeros((2, 4, 4, 1)), jnp.array([0, 6])), None)[1]
        7
    """
    data = check_images(dataset)
    if (least := int(jnp.min(data.labels))) < 0:
        raise ValueError(
            f"labels must be at least 0, got {least}; leave out images that have no label."
        )
    labels_need = int(jnp.max(data.labels)) + 1
    if num_classes is None:
        num_classes = labels_need
    return data, check_positive_int("num_classes", num_classes, minimum=labels_need)


def scaled_normal(key: Key, shape: tuple[int, ...]) -> jax.Array:
    """A kernel `[..., out]`, float32, normal with standard deviation 1 / sqrt(fan_in)."""
    return jax.random.normal(key, shape) / math.sqrt(math.prod(shape[:-1]))


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean over images of -log softmax at the label; `[n, classes]`, int `[n]` -> `[]`.

    Example:
        >>> round(float(cross_entropy(jnp.zeros((5, 4)), jnp.arange(5) % 4)), 4)  # log 4
        1.3863
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
