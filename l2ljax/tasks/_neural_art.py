"""Painting a photograph in the style of another picture (Andrychowicz et al. 2016, section 3.4).

The optimizee is the picture itself; the loss is that of Gatys, Ecker and Bethge (2016), "Image
style transfer using convolutional neural networks": features like the photograph's (content),
correlations of features like the style's (Gram matrices), and neighbours alike (smoothness).
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from l2ljax.base import Key, Params, PyTree, Task
from l2ljax.checks import check_number, short
from l2ljax.specification import call_with
from l2ljax.tasks.features import Extractor
from l2ljax.tasks.minibatch import as_float
from l2ljax.tasks.pictures import load_content, load_picture, resize_square
from l2ljax.tasks.vgg import LAYOUTS, vgg

EXTRACTORS = {name: functools.partial(vgg, name) for name in LAYOUTS}
"""Name in configs -> builder."""
NOISE = 0.1
"""Standard deviation of theta_0's pixels around grey."""

Source = Any  # a name, a path, several of them, or an array


class Art(NamedTuple):
    """What all pictures of a task share.

    Attributes:
        contents: photographs, uint8 or float `[n, height, width, 3]`.
        style: the style's picture, `[height, width, 3]`.
        grams: the style's Gram matrix at each style tap, `[channels, channels]`.
        weights: the extractor's.
        photographs: int32 `[n]`, which photograph each of `contents` is a crop of.
    """

    contents: jax.Array
    style: jax.Array
    grams: dict[str, jax.Array]
    weights: PyTree
    photographs: jax.Array


class Targets(NamedTuple):
    """What a picture is compared with: the photograph's features, and what `Art` has."""

    content: jax.Array
    grams: dict[str, jax.Array]
    weights: PyTree


def neural_art(
    content: Source = "train",
    style: Source = "retina",
    size: int = 64,
    num_crops: int = 64,
    extractor: Extractor | Mapping[str, Any] | str = "cifar10",
    content_weight: float = 1.0,
    style_weight: float = 2.0,
    smoothness: float = 3.0,
    content_tap: str | None = None,
    style_taps: Sequence[str] | None = None,
) -> Task:
    """Pictures with the content of a photograph in the style of another; the photograph varies.

    With the relative squared error e(x, y) = ||x - y||^2 / ||y||^2, which makes the weights mean
    the same for any extractor, the loss is

        content_weight * e(features, the photograph's) at the content tap
        + style_weight * mean over style taps of e(Gram matrix, the style's)
        + smoothness * the mean squared difference of neighbouring pixels.

    theta_0 is grey noise, normal around 0.5: as in Gatys et al. it favours neither picture, every
    episode starts equally far from its end, and all of the picture is the optimizer's work. There
    are no minibatches: every step sees the whole picture.

    Args:
        content: the photographs: "train", "test" (see `l2ljax.tasks.pictures.CONTENT`), a
            directory, a list of names and files; or an array `[n, height, width, 3]`, uint8 or
            float in [0, 1].
        style: the style: a name in `l2ljax.tasks.pictures.STYLES`, a file; or an array
            `[height, width, 3]`.
        size: height and width that pictures from files are brought to.
        num_crops: square crops of each photograph from files.
        extractor: an `Extractor`; or the arguments of `l2ljax.tasks.vgg.vgg` as a dict, such as
            `{"name": "vgg19", "path": FILE}`, or its name alone.
        content_weight: of the content loss.
        style_weight: of the style loss.
        smoothness: of the total variation.
        content_tap: where content is compared; default: the extractor's.
        style_taps: where styles are compared; default: the extractor's.

    Returns:
        a `Task` whose params are the pixels, float32 `[height, width, 3]`, 0 black and 1 white but
        not bounded; an instance is the photograph's features; its data are an `Art`.

    Raises:
        ValueError: for pictures of other shapes or dtypes, taps that the extractor does not have or
            that have no pixel left, weights that are not finite numbers of 0 and more or all 0; and
            whatever reading pictures or weights refuses.

    Example:
        >>> task = neural_art(jnp.ones((2, 16, 16, 3)), jnp.zeros((16, 16, 3)))
        >>> instance = task.sample(task.data, jax.random.key(0))
        >>> pixels = task.init(instance, jax.random.key(1))
        >>> pixels.shape, instance.shape  # the features have half the size
        ((16, 16, 3), (8, 8, 32))
        >>> task.loss(pixels, task.batch(task.data, instance, jax.random.key(2))).shape
        ()
    """
    extractor = _extractor(extractor)
    content_tap = extractor.content_tap if content_tap is None else content_tap
    style_taps = tuple(extractor.style_taps if style_taps is None else style_taps)
    taps = tuple(dict.fromkeys((content_tap, *style_taps)))
    _check_weights(content_weight, style_weight, smoothness)
    with _naming("content"):
        contents = jnp.asarray(
            content if _is_array(content) else load_content(content, size, num_crops)
        )
    with _naming("style"):
        picture = jnp.asarray(
            style if _is_array(style) else resize_square(load_picture(style), size, name=str(style))
        )
    _check_pictures("content", contents, "n, ")
    _check_pictures("style", picture, "")
    for image in (contents[0], picture):
        _check_taps(extractor, image, taps)
    styled = extractor(as_float(picture), style_taps)
    grams = {tap: gram(styled[tap]) for tap in style_taps}
    photographs = jnp.arange(contents.shape[0]) // (1 if _is_array(content) else num_crops)
    data = Art(contents, picture, grams, extractor.params, photographs)

    def sample(data: Art, key: Key) -> jax.Array:
        image = as_float(data.contents[_drawn(data, key)])
        return extractor.apply(data.weights, image, (content_tap,))[content_tap]

    def init(instance: jax.Array, key: Key) -> Params:
        del instance
        return 0.5 + NOISE * jax.random.normal(key, contents.shape[1:])

    def batch(data: Art, instance: jax.Array, key: Key) -> Targets:
        del key
        return Targets(instance, data.grams, data.weights)

    def loss(params: Params, batch: Targets) -> jax.Array:
        found = extractor.apply(batch.weights, params, taps)
        unlike = [relative_error(gram(found[tap]), batch.grams[tap]) for tap in style_taps]
        return (
            content_weight * relative_error(found[content_tap], batch.content)
            + style_weight * sum(unlike) / max(1, len(unlike))
            + smoothness * total_variation(params)
        )

    return Task(init=init, loss=loss, sample=sample, batch=batch, data=data)


def photograph(data: Art, key: Key) -> jax.Array:
    """Which photograph `sample(data, key)` of a task draws a crop of, int32.

    Crops of one photograph are no independent draws: a 95 % interval must know of it.
    """
    return data.photographs[_drawn(data, key)]


def _drawn(data: Art, key: Key) -> jax.Array:
    return jax.random.randint(key, (), 0, data.contents.shape[0])


def gram(features: jax.Array) -> jax.Array:
    """Correlations of channels, averaged over positions.

    Args:
        features: `[height, width, channels]`.

    Returns:
        `[channels, channels]`, the same for any size of a repeated texture.

    Example:
        >>> gram(jnp.array([[[1.0, 2.0], [3.0, 0.0]]])).tolist()
        [[5.0, 1.0], [1.0, 2.0]]
    """
    rows = features.reshape(-1, features.shape[-1])
    return rows.T @ rows / rows.shape[0]


def relative_error(found: jax.Array, wanted: jax.Array) -> jax.Array:
    """||found - wanted||^2 / ||wanted||^2.

    Example:
        >>> float(relative_error(jnp.array([1.0, 1.0]), jnp.array([2.0, 0.0])))
        0.5
    """
    return jnp.sum((found - wanted) ** 2) / (jnp.sum(wanted**2) + 1e-12)


def total_variation(picture: jax.Array) -> jax.Array:
    """The mean squared difference of neighbours, of those one below the other plus side by side.

    Args:
        picture: `[height, width, channels]`.

    Example:
        >>> float(total_variation(jnp.array([[0.0, 1.0], [0.0, 3.0]])[:, :, None]))
        7.0
    """
    down, right = jnp.diff(picture, axis=0), jnp.diff(picture, axis=1)
    return jnp.mean(down**2) + jnp.mean(right**2)


def _extractor(given: Any) -> Extractor:
    if isinstance(given, Extractor):
        return given
    specification = {"name": given} if isinstance(given, str) else given
    if not isinstance(specification, Mapping):
        raise ValueError(
            "extractor must be an Extractor, a network's name or arguments of vgg as a dict, got "
            f"{short(given)}."
        )
    return call_with(EXTRACTORS, specification, "extractor")


def _is_array(value: Any) -> bool:
    return hasattr(value, "ndim") and hasattr(value, "dtype")


def _check_pictures(name: str, value: jax.Array, first: str) -> None:
    """Refuses what is no picture, or no array of them."""
    ndim = 4 if first else 3
    fits = value.ndim == ndim and value.shape[-1] == 3 and min(value.shape) > 0
    if not fits or not (value.dtype == jnp.uint8 or jnp.issubdtype(value.dtype, jnp.floating)):
        raise ValueError(
            f"{name} must be [{first}height, width, 3] of dtype uint8 or float, got "
            f"{value.shape} of dtype {value.dtype}."
        )


@contextlib.contextmanager
def _naming(argument: str) -> Iterator[None]:
    """Says which argument names a picture that is not there."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{argument}: {error}") from error


def _check_taps(extractor: Extractor, image: jax.Array, taps: tuple[str, ...]) -> None:
    unknown = [tap for tap in taps if tap not in extractor.taps]
    if unknown:
        raise ValueError(
            f"The extractor has no tap {unknown[0]!r}; there are {', '.join(extractor.taps)}."
        )
    there = jax.eval_shape(lambda x: extractor(as_float(x), taps), image)
    empty = [tap for tap in taps if 0 in there[tap].shape]
    if empty:
        raise ValueError(
            f"A picture of {image.shape[0]} x {image.shape[1]} pixels has none left at the tap "
            f"{empty[0]!r}; give larger pictures or shallower taps."
        )


def _check_weights(content_weight: float, style_weight: float, smoothness: float) -> None:
    weights = {
        "content_weight": content_weight,
        "style_weight": style_weight,
        "smoothness": smoothness,
    }
    for name, value in weights.items():
        check_number(name, value)
        if value < 0:
            raise ValueError(f"{name} must be 0 or more, got {value}.")
    if not any(weights.values()):
        raise ValueError("All weights of the loss are 0; give one that is not.")
