"""Random minibatches of an image data set that stays on the device as it was stored."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from l2ljax.base import Batch, Instance, Key, PyTree
from l2ljax.tasks.data import Images


def random_minibatch(batch_size: int) -> Callable[[PyTree, Instance, Key], Batch]:
    """A `Task.batch` that draws `batch_size` images uniformly, with replacement, as floats."""

    def batch(data: Images, instance: Instance, key: Key) -> Images:
        del instance
        rows = jax.random.randint(key, (batch_size,), 0, data.labels.shape[0])
        return Images(as_float(data.images[rows]), data.labels[rows])

    return batch


Batching = Callable[[PyTree, Any, Key], Any]
"""(data, instance, key) -> a minibatch."""


def draws(batch: Batching) -> int:
    """How many numbers `batch` folds into its key, 1 and on; see `with_draws`."""
    return getattr(batch, "draws", 0)


def with_draws(batch: Batching, number: int) -> Batching:
    """`batch`, which says that it folds 1 to `number` into its key: others take higher ones."""
    batch.draws = number  # pyright: ignore[reportFunctionMemberAccess]
    return batch


def as_float(images: jax.Array) -> jax.Array:
    """What the classifiers see: uint8 scaled to [0, 1], other dtypes as they are."""
    return images.astype(jnp.float32) / 255.0 if images.dtype == jnp.uint8 else images
