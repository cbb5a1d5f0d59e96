"""Small convolutional classifiers, as VeLO's suite of fixed tasks defines them (Metz et al. 2022).

Convolutions of 3 x 3 ("SAME", stride 2 in the first, 1 after), each followed by an activation and
then, where asked for, a normalisation; a global mean; one linear layer.
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from l2ljax.base import Batch, Instance, Key, Params, PyTree, Task
from l2ljax.checks import check_choice, check_positive_int, check_sizes
from l2ljax.tasks._image_mlp import NORMALISATIONS
from l2ljax.tasks._mlp import ACTIVATIONS
from l2ljax.tasks.classification import check_classes, cross_entropy
from l2ljax.tasks.layers import strided_convolve, truncated_kernel
from l2ljax.tasks.minibatch import random_minibatch


def image_convnet(
    dataset: PyTree,
    channels: Sequence[int] = (32, 64, 64),
    activation: str = "relu",
    *,
    normalisation: str | None = None,
    batch_size: int = 128,
    num_classes: int | None = None,
) -> Task:
    """Classify images with a few convolutions and a linear layer.

    Args:
        dataset: `(images, labels)`, images `[n, height, width, channels]`.
        channels: output channels of each convolution.
        activation: "relu", "tanh", "sigmoid" or "gelu".
        normalisation: "layer" (over channels), "batch" or `None`.
        batch_size: images in a minibatch, drawn uniformly with replacement.
        num_classes: size of the output; default: the largest label + 1.

    Returns:
        a `Task` whose params are `{"conv": [{"kernel": [3, 3, in, out], "bias": [out]}, ...],
        "fc": [{"kernel": [in, classes], "bias": [classes]}]}`, with `"scale"` and `"offset"` where
        a convolution is normalised; its loss is the mean cross-entropy.

    Raises:
        ValueError: for an unknown name, or a size that is no positive integer.

    Example:
        >>> digits = (jnp.zeros((50, 8, 8, 1), jnp.uint8), jnp.arange(50) % 10)
        >>> task = image_convnet(digits, (4, 8), normalisation="batch", batch_size=16)
        >>> task.init((), jax.random.key(0))["fc"][0]["kernel"].shape
        (8, 10)
    """
    channels = check_sizes("channels", channels)
    check_choice("activation", activation, sorted(ACTIVATIONS))
    if normalisation is not None:
        check_choice("normalisation", normalisation, sorted(NORMALISATIONS))
    check_positive_int("batch_size", batch_size)
    data, classes = check_classes(dataset, num_classes)
    if data.images.ndim != 4:
        raise ValueError(
            f"images must be [n, height, width, channels], got shape {data.images.shape}."
        )
    act = ACTIVATIONS[activation]
    in_channels = [data.images.shape[-1], *channels]

    def init(instance: Instance, key: Key) -> Params:
        del instance
        *keys, last = jax.random.split(key, len(channels) + 1)
        conv = []
        for k, (m, n) in zip(keys, itertools.pairwise(in_channels), strict=True):
            layer = {"kernel": truncated_kernel(k, (3, 3, m, n)), "bias": jnp.zeros(n)}
            if normalisation is not None:
                layer |= {"scale": jnp.ones(n), "offset": jnp.zeros(n)}
            conv.append(layer)
        out = {"kernel": truncated_kernel(last, (in_channels[-1], classes))}
        return {"conv": conv, "fc": [out | {"bias": jnp.zeros(classes)}]}

    def loss(params: Params, batch: Batch) -> jax.Array:
        x = batch.images
        for i, layer in enumerate(params["conv"]):
            x = act(strided_convolve(x, layer["kernel"], 2 if i == 0 else 1) + layer["bias"])
            if normalisation is not None:
                x = NORMALISATIONS[normalisation](x, layer["scale"], layer["offset"])
        out = params["fc"][0]
        logits = x.mean(axis=(1, 2)) @ out["kernel"] + out["bias"]
        return cross_entropy(logits, batch.labels)

    return Task(init=init, loss=loss, batch=random_minibatch(batch_size), data=data)
