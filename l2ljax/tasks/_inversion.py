"""Pictures found again by what a network sees of them: the optimizee is a picture."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from l2ljax.base import Batch, Instance, Key, Params, PyTree, Task
from l2ljax.checks import check_number, check_positive_int, check_sizes
from l2ljax.tasks._neural_art import NOISE, relative_error, total_variation
from l2ljax.tasks.layers import strided_convolve

WAVES = 6
"""That a picture is the sum of."""


def feature_inversion(
    size: int = 32, channels: Sequence[int] = (16, 32), smoothness: float = 0.3
) -> Task:
    """Find a picture by its features in a random convolutional network.

    Mahendran and Vedaldi 2015 (arXiv:1412.0035), equation 1, with squared differences of
    neighbours: ||features(x) - features(x_0)||^2 / ||features(x_0)||^2 + `smoothness` times the
    mean squared difference of neighbouring pixels. Layers are 3 x 3 with stride 2 and a ReLU, their
    kernels normal. The picture x_0, a sum of waves in each colour, scaled to [0, 1], and the
    network are drawn once an optimizee. The search starts at grey noise, as in `neural_art`; there
    are no minibatches.

    Args:
        size: height and width of the picture.
        channels: of each layer.
        smoothness: weight of the prior, positive.

    Returns:
        a `Task` whose params are the pixels, float32 `[size, size, 3]`, and whose instances are the
        kernels, `[3, 3, in, out]` each, and the features of x_0.

    Raises:
        ValueError: for sizes that are no positive integers, or a smoothness that is not positive.

    Example:
        >>> task = feature_inversion(size=8, channels=(4,))
        >>> kernels, wanted = task.sample((), jax.random.key(0))
        >>> kernels[0].shape, wanted.shape, task.init((), jax.random.key(1)).shape
        ((3, 3, 3, 4), (4, 4, 4), (8, 8, 3))
    """
    check_positive_int("size", size, minimum=2)
    sizes = [3, *check_sizes("channels", channels)]
    check_number("smoothness", smoothness, above=0)

    def features(kernels: list[jax.Array], picture: jax.Array) -> jax.Array:
        x = picture[None]
        for kernel in kernels:
            x = jax.nn.relu(strided_convolve(x, kernel, 2))
        return x[0]

    def sample(data: PyTree, key: Key) -> Instance:
        del data
        of_picture, *keys = jax.random.split(key, len(sizes))
        kernels = [
            jax.random.normal(k, (3, 3, m, n)) * jnp.sqrt(2 / (9 * m))
            for k, (m, n) in zip(keys, itertools.pairwise(sizes), strict=True)
        ]
        return kernels, features(kernels, _picture(of_picture, size))

    def init(instance: Instance, key: Key) -> Params:
        del instance
        return 0.5 + NOISE * jax.random.normal(key, (size, size, 3))

    def loss(params: Params, batch: Batch) -> jax.Array:
        kernels, wanted = batch
        unlike = relative_error(features(kernels, params), wanted)
        return unlike + smoothness * total_variation(params)

    return Task(init=init, loss=loss, sample=sample)


def _picture(key: Key, size: int) -> jax.Array:
    """Waves of a few periods, each in its own mixture of the colours, in [0, 1]."""
    directions, phases, colours = jax.random.split(key, 3)
    axis = jnp.linspace(0.0, 1.0, size)
    places = jnp.stack(jnp.meshgrid(axis, axis), axis=-1)
    angles = places @ (12 * jax.random.normal(directions, (2, WAVES)))
    waves = jnp.sin(angles + jax.random.uniform(phases, (WAVES,), maxval=2 * jnp.pi))
    picture = waves @ jax.random.normal(colours, (WAVES, 3))
    return (picture - picture.min()) / (picture.max() - picture.min())
