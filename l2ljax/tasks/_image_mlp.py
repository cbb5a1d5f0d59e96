"""Image classifiers of fully connected layers, as VeLO's suite of fixed tasks defines them.

Metz et al. (2022), arXiv:2211.09760: weights start truncated normal (cut at two standard
deviations, 1 / sqrt(fan_in) before the cut), biases at 0; images are in [0, 1].
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import Batch, Instance, Key, Params, PyTree, Task
from l2ljax.checks import (
    check_choice,
    check_number,
    check_positive_int,
    check_sizes,
    is_number,
    short,
)
from l2ljax.tasks._mlp import ACTIVATIONS
from l2ljax.tasks.classification import check_classes, cross_entropy
from l2ljax.tasks.layers import batch_normalise, layer_normalise, truncated_kernel
from l2ljax.tasks.minibatch import random_minibatch, with_draws

NORMALISATIONS = {"layer": layer_normalise, "batch": batch_normalise}


class KeyedImages(NamedTuple):
    """A minibatch, and the randomness of this step's dropout."""

    images: jax.Array
    labels: jax.Array
    key: Key


def image_mlp(
    dataset: PyTree,
    hidden_sizes: Sequence[int] = (128, 128, 128),
    activation: str = "relu",
    *,
    normalisation: str | None = None,
    dropout: float = 0.0,
    loss: str = "cross_entropy",
    batch_size: int = 128,
    num_classes: int | None = None,
    init_scale: float = 1.0,
) -> Task:
    """Classify images with linear layers, each followed by normalisation, activation and dropout.

    Args:
        dataset: `(images, labels)` as `l2ljax.load_dataset` or `l2ljax.tasks.resized` give them:
            uint8 or float `[n, height, width, channels]`, int `[n]`.
        hidden_sizes: units of each hidden layer; none makes it softmax regression.
        activation: "relu", "tanh", "sigmoid" or "gelu".
        normalisation: "layer", "batch" (by the batch's own statistics, always) or `None`.
        dropout: share of hidden units that is zeroed in each step, in [0, 1).
        loss: "cross_entropy", or "squared": the mean squared difference to the one-hot label.
        batch_size: images in a minibatch, drawn uniformly with replacement.
        num_classes: size of the output; default: the largest label + 1.
        init_scale: factor on every kernel at the start.

    Returns:
        a `Task` whose params are one dict a layer, `{"kernel": [in, out], "bias": [out]}`, with
        `"scale"` and `"offset"` `[out]` where the layer is normalised.

    Raises:
        ValueError: for an unknown name, a size that is no positive integer, a share that is none,
            or batches of one row with normalisation by the batch.

    Example:
        >>> digits = (jnp.zeros((50, 8, 8, 1), jnp.uint8), jnp.arange(50) % 10)
        >>> task = image_mlp(digits, (32,), normalisation="layer", batch_size=16)
        >>> params = task.init((), jax.random.key(0))
        >>> sorted(params[0]), params[1]["kernel"].shape
        (['bias', 'kernel', 'offset', 'scale'], (32, 10))
    """
    check_choice("activation", activation, sorted(ACTIVATIONS))
    check_choice("loss", loss, ["cross_entropy", "squared"])
    if normalisation is not None:
        check_choice("normalisation", normalisation, sorted(NORMALISATIONS))
    if not (is_number(dropout) and 0 <= dropout < 1):
        raise ValueError(f"dropout must be a share in [0, 1), got {short(dropout)}.")
    check_positive_int("batch_size", batch_size, minimum=2 if normalisation == "batch" else 1)
    check_number("init_scale", init_scale, above=0)
    hidden_sizes = check_sizes("hidden_sizes", hidden_sizes)
    data, classes = check_classes(dataset, num_classes)
    sizes = [math.prod(data.images.shape[1:]), *hidden_sizes, classes]
    act = ACTIVATIONS[activation]
    draw = random_minibatch(batch_size)

    def init(instance: Instance, key: Key) -> Params:
        del instance
        return _init(key, sizes, init_scale, normalised=normalisation is not None)

    def batch(data: PyTree, instance: Instance, key: Key) -> KeyedImages:
        images, labels = draw(data, instance, key)
        return KeyedImages(images, labels, jax.random.fold_in(key, 1))

    def task_loss(params: Params, batch: Batch) -> jax.Array:
        x = batch.images.reshape(batch.images.shape[0], -1)
        for i, layer in enumerate(params[:-1]):
            x = x @ layer["kernel"] + layer["bias"]
            if normalisation is not None:
                x = NORMALISATIONS[normalisation](x, layer["scale"], layer["offset"])
            x = act(x)
            if dropout:
                kept = jax.random.bernoulli(jax.random.fold_in(batch.key, i), 1 - dropout, x.shape)
                x = jnp.where(kept, x / (1 - dropout), 0)
        logits = x @ params[-1]["kernel"] + params[-1]["bias"]
        if loss == "squared":
            return optax.losses.squared_error(logits, jax.nn.one_hot(batch.labels, classes)).mean()
        return cross_entropy(logits, batch.labels)

    return Task(init=init, loss=task_loss, batch=with_draws(batch, 1 if dropout else 0), data=data)


def _init(key: Key, sizes: Sequence[int], init_scale: float, *, normalised: bool) -> Params:
    """One dict a layer; the last is never normalised."""
    keys = jax.random.split(key, len(sizes) - 1)
    layers = []
    for k, (m, n) in zip(keys, itertools.pairwise(sizes), strict=True):
        layers.append({"kernel": init_scale * truncated_kernel(k, (m, n)), "bias": jnp.zeros(n)})
    if normalised:
        for layer in layers[:-1]:
            layer |= {
                "scale": jnp.ones_like(layer["bias"]),
                "offset": jnp.zeros_like(layer["bias"]),
            }
    return layers
