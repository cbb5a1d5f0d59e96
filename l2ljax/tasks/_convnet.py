"""Training a convolutional network on images (Andrychowicz et al. 2016, section 3.3)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from l2ljax.base import Batch, Instance, Key, Params, PyTree, Task
from l2ljax.checks import check_positive_int, check_sizes
from l2ljax.tasks.classification import check_classes, cross_entropy, scaled_normal
from l2ljax.tasks.layers import batch_normalise, convolve, max_pool
from l2ljax.tasks.minibatch import as_float, random_minibatch


def convnet(
    dataset: PyTree,
    channels: Sequence[int] = (16, 16, 16),
    hidden_sizes: Sequence[int] = (32,),
    kernel_size: int = 5,
    batch_size: int = 128,
    num_classes: int | None = None,
) -> Task:
    """Classify images with a convolutional network; theta_0 and the minibatches are what varies.

    Each convolution (stride 1, "SAME") is followed by batch normalisation, ReLU and 2 x 2 max
    pooling; each hidden fully connected layer by batch normalisation and ReLU. These layers have no
    bias, since the normalisation would subtract it again; its offset takes the place. On CIFAR-10
    that makes 22,682 parameters. The loss is the mean cross-entropy.

    Kernels start normal with standard deviation 1 / sqrt(fan_in), scales at 1, offsets and the
    output's bias at 0. A minibatch is `batch_size` images drawn uniformly with replacement.

    Args:
        dataset: `(images, labels)` as `l2ljax.load_dataset` gives them. `images` uint8 (scaled to
            [0, 1] in each batch) or float (taken as they are), `[n, height, width, channels]`;
            `labels` int `[n]`.
        channels: output channels of each convolution.
        hidden_sizes: units of each hidden fully connected layer.
        kernel_size: height and width of each convolution's kernel.
        batch_size: images in a minibatch, at least 2, since batch statistics need a batch.
        num_classes: size of the output; default: the largest label + 1.

    Returns:
        a `Task` whose data are the given images and labels, and whose params are
        `{"conv": [{"kernel": [k, k, in, out], "scale": [out], "offset": [out]}, ...],
        "fc": [{"kernel": [in, out], "scale": [out], "offset": [out]}, ...,
        {"kernel": [in, classes], "bias": [classes]}]}`; `l2ljax.optimizers.conv_fc_labels` labels
        them for `l2ljax.partition`.

    Raises:
        ValueError: for sizes that are no positive integers, images that are not
            `[n, height, width, channels]` or that the poolings would shrink to nothing, images and
            labels that do not belong together, or a label that is not below `num_classes`.

    Example:
        >>> from l2ljax.tasks.data import Images
        >>> digits = Images(jnp.zeros((50, 8, 8, 1), jnp.uint8), jnp.arange(50) % 10)
        >>> task = convnet(digits, channels=(4, 4), hidden_sizes=(8,), batch_size=16)
        >>> params = task.init((), jax.random.key(0))
        >>> params["conv"][1]["kernel"].shape, params["fc"][0]["kernel"].shape
        ((5, 5, 4, 4), (16, 8))
        >>> float(task.loss(params, task.batch(task.data, (), jax.random.key(1)))) > 0
        True
    """
    channels = check_sizes("channels", channels)
    hidden_sizes = check_sizes("hidden_sizes", hidden_sizes)
    check_positive_int("kernel_size", kernel_size)
    check_positive_int("batch_size", batch_size, minimum=2)
    data, num_classes = check_classes(dataset, num_classes)
    if data.images.ndim != 4 or min(data.images.shape[1:3]) < 2 ** len(channels):
        raise ValueError(
            "images must be [n, height, width, channels] with height and width of at least "
            f"{2 ** len(channels)} for {len(channels)} poolings, got {data.images.shape}."
        )
    _, height, width, depth = data.images.shape
    in_channels = [depth, *channels]
    shrink = 2 ** len(channels)
    sizes = [(height // shrink) * (width // shrink) * in_channels[-1], *hidden_sizes, num_classes]

    def init(instance: Instance, key: Key) -> Params:
        del instance
        keys = iter(jax.random.split(key, len(channels) + len(sizes) - 1))
        conv = [
            _normalised_layer(next(keys), (kernel_size, kernel_size, m, n))
            for m, n in zip(in_channels[:-1], channels, strict=True)
        ]
        fc = [
            _normalised_layer(next(keys), (m, n))
            for m, n in zip(sizes[:-2], hidden_sizes, strict=True)
        ]
        out = {"kernel": scaled_normal(next(keys), (sizes[-2], num_classes))}
        return {"conv": conv, "fc": [*fc, out | {"bias": jnp.zeros(num_classes)}]}

    def loss(params: Params, batch: Batch) -> jax.Array:
        return cross_entropy(logits(params, batch.images), batch.labels)

    return Task(init=init, loss=loss, batch=random_minibatch(batch_size), data=data)


def logits(params: Params, images: jax.Array) -> jax.Array:
    """The network's output `[n, classes]` for one batch, which it also normalises by.

    Args:
        params: of a `convnet`.
        images: `[n, height, width, channels]`, uint8 (scaled to [0, 1]) or float.
    """
    x = as_float(images)
    for layer in params["conv"]:
        x = convolve(x, layer["kernel"])
        # ReLU after the pooling gives the same on a quarter of the values.
        x = jax.nn.relu(max_pool(batch_normalise(x, layer["scale"], layer["offset"])))
    x = x.reshape(x.shape[0], -1)
    *hidden, out = params["fc"]
    for layer in hidden:
        x = jax.nn.relu(batch_normalise(x @ layer["kernel"], layer["scale"], layer["offset"]))
    return x @ out["kernel"] + out["bias"]


def accuracy(
    params: Params, images: jax.Array, labels: jax.Array, batch_size: int = 128
) -> jax.Array:
    """The share of images whose largest logit is the label's, e.g. on images not trained on.

    Images are taken in the given order, `batch_size` at a time, and each batch is normalised by its
    own statistics, as in training; so give them shuffled, as data sets usually are. The last batch
    is filled up with images before it, which count once.

    Args:
        params: of a `convnet`.
        images: `[n, height, width, channels]`, uint8 (scaled to [0, 1]) or float.
        labels: int `[n]`.
        batch_size: images in a batch; where there are fewer, they are one batch.

    Returns:
        a float32 scalar in [0, 1].

    Raises:
        ValueError: if there is no image, or not one label an image.

    Example:
        >>> task = convnet((jnp.zeros((9, 8, 8, 1)), jnp.arange(9) % 3), channels=(4,))
        >>> params = task.init((), jax.random.key(0))
        >>> round(float(accuracy(params, *task.data)), 3)  # black images: always the same class
        0.333
    """
    n = images.shape[0]
    if n == 0 or labels.shape != (n,):
        raise ValueError(
            "accuracy needs images [n, height, width, channels] and labels [n] with n >= 1, got "
            f"{images.shape} and {labels.shape}."
        )
    batch_size = min(check_positive_int("batch_size", batch_size, minimum=2), n)
    whole = n // batch_size * batch_size
    rows = jnp.arange(whole).reshape(-1, batch_size)

    def predict(rows: jax.Array) -> jax.Array:
        return logits(params, images[rows]).argmax(axis=-1)

    predicted = jax.lax.map(predict, rows).ravel()
    if whole < n:
        last = predict(jnp.arange(n - batch_size, n))
        predicted = jnp.concatenate([predicted, last[whole - n :]])
    return jnp.mean(predicted == labels)


def _normalised_layer(key: Key, shape: tuple[int, ...]) -> Params:
    out = shape[-1]
    return {"kernel": scaled_normal(key, shape), "scale": jnp.ones(out), "offset": jnp.zeros(out)}
