"""Training a multilayer perceptron on images (Andrychowicz et al. 2016, section 3.2)."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from l2ljax.base import Batch, Instance, Key, Params, PyTree, Task
from l2ljax.checks import check_choice, check_number, check_positive_int, check_sizes
from l2ljax.tasks.classification import check_classes, cross_entropy, scaled_normal
from l2ljax.tasks.minibatch import random_minibatch

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
}


def mlp(
    dataset: PyTree,
    hidden_sizes: Sequence[int] = (20,),
    activation: str = "sigmoid",
    batch_size: int = 128,
    num_classes: int | None = None,
    init_stddev: float | None = None,
) -> Task:
    """Classify images with a multilayer perceptron; theta_0 and the minibatches are what varies.

    Weights start normal with standard deviation 1 / sqrt(fan_in), biases at 0, unless `init_stddev`
    says otherwise. A minibatch is `batch_size` images drawn uniformly with replacement. The loss is
    the mean cross-entropy.

    Args:
        dataset: `(images, labels)` as `l2ljax.load_dataset` gives them. `images` uint8 (scaled to
            [0, 1] in each batch) or float (taken as they are), `[n, ...]`; `labels` int `[n]`.
        hidden_sizes: units of each hidden layer; the paper meta-trains on (20,).
        activation: one of "sigmoid", "relu", "tanh", "gelu".
        batch_size: images in a minibatch.
        num_classes: size of the output; default: the largest label + 1.
        init_stddev: standard deviation of all weights and biases at the start, normal with mean 0;
            DeepMind's released code has 0.01. Default: scaled by fan-in, as above.

    Returns:
        a `Task` whose params are `[{"kernel": [in, out], "bias": [out]}, ...]`, one a layer, and
        whose data are the given images and labels.

    Raises:
        ValueError: for an unknown activation, sizes that are no positive integers, images and
            labels that do not belong together, a label that is not below `num_classes`, or a
            standard deviation that is no positive number.

    Example:
        >>> from l2ljax.tasks.data import Images
        >>> digits = Images(jnp.zeros((50, 8, 8, 1), jnp.uint8), jnp.arange(50) % 10)
        >>> task = mlp(digits, hidden_sizes=(20,), batch_size=16)
        >>> batch = task.batch(task.data, (), jax.random.key(0))
        >>> float(task.loss(task.init((), jax.random.key(1)), batch)) > 0
        True
    """
    check_choice("activation", activation, sorted(ACTIVATIONS))
    hidden_sizes = check_sizes("hidden_sizes", hidden_sizes)
    check_positive_int("batch_size", batch_size)
    if init_stddev is not None:
        check_number("init_stddev", init_stddev, above=0)
    data, num_classes = check_classes(dataset, num_classes)
    sizes = [math.prod(data.images.shape[1:]), *hidden_sizes, num_classes]
    act = ACTIVATIONS[activation]

    def init(instance: Instance, key: Key) -> Params:
        del instance
        keys = jax.random.split(key, len(sizes) - 1)
        return [
            _layer(k, m, n, init_stddev)
            for k, m, n in zip(keys, sizes[:-1], sizes[1:], strict=True)
        ]

    def loss(params: Params, batch: Batch) -> jax.Array:
        hidden = batch.images.reshape(batch.images.shape[0], -1)
        for layer in params[:-1]:
            hidden = act(hidden @ layer["kernel"] + layer["bias"])
        logits = hidden @ params[-1]["kernel"] + params[-1]["bias"]
        return cross_entropy(logits, batch.labels)

    return Task(init=init, loss=loss, batch=random_minibatch(batch_size), data=data)


def _layer(key: Key, fan_in: int, fan_out: int, stddev: float | None) -> dict[str, jax.Array]:
    """A layer at the start: all normal with `stddev`; `None`: kernel scaled by fan-in, bias 0."""
    if stddev is None:
        return {"kernel": scaled_normal(key, (fan_in, fan_out)), "bias": jnp.zeros(fan_out)}
    all_in_one = stddev * jax.random.normal(key, (fan_in + 1, fan_out))
    return {"kernel": all_in_one[:-1], "bias": all_in_one[-1]}
