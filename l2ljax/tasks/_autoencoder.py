"""Autoencoders of images, as VeLO's suite of fixed tasks defines them (Metz et al. 2022)."""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from l2ljax.base import Batch, Instance, Key, Params, PyTree, Task
from l2ljax.checks import check_positive_int, check_sizes
from l2ljax.tasks.data import check_images
from l2ljax.tasks.layers import truncated_kernel
from l2ljax.tasks.minibatch import random_minibatch


def autoencoder(
    dataset: PyTree, hidden_sizes: Sequence[int] = (128, 32, 128), batch_size: int = 128
) -> Task:
    """Reproduce images through a narrow layer: ReLU inside, a sigmoid at the output.

    The loss is the mean squared difference over pixels and images, which are in [0, 1]. Weights
    start truncated normal, scaled by fan-in, biases at 0.

    Args:
        dataset: `(images, labels)`; `images` uint8 or float `[n, height, width, channels]`, the
            labels are not used.
        hidden_sizes: units of each hidden layer.
        batch_size: images in a minibatch, drawn uniformly with replacement.

    Returns:
        a `Task` whose params are `[{"kernel": [in, out], "bias": [out]}, ...]`.

    Raises:
        ValueError: for sizes that are no positive integers.

    Example:
        >>> digits = (jnp.zeros((50, 8, 8, 1), jnp.uint8), jnp.arange(50) % 10)
        >>> task = autoencoder(digits, (16, 4, 16), batch_size=16)
        >>> [layer["kernel"].shape for layer in task.init((), jax.random.key(0))]
        [(64, 16), (16, 4), (4, 16), (16, 64)]
    """
    hidden_sizes = check_sizes("hidden_sizes", hidden_sizes)
    check_positive_int("batch_size", batch_size)
    data = check_images(dataset)
    pixels = math.prod(data.images.shape[1:])
    sizes = [pixels, *hidden_sizes, pixels]

    def init(instance: Instance, key: Key) -> Params:
        del instance
        keys = jax.random.split(key, len(sizes) - 1)
        return [
            {"kernel": truncated_kernel(k, (m, n)), "bias": jnp.zeros(n)}
            for k, (m, n) in zip(keys, itertools.pairwise(sizes), strict=True)
        ]

    def loss(params: Params, batch: Batch) -> jax.Array:
        images = batch.images.reshape(batch.images.shape[0], -1)
        x = images
        for layer in params[:-1]:
            x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
        x = jax.nn.sigmoid(x @ params[-1]["kernel"] + params[-1]["bias"])
        return jnp.mean(jnp.square(x - images))

    return Task(init=init, loss=loss, batch=random_minibatch(batch_size), data=data)
