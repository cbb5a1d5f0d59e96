"""Image data sets as device arrays: scikit-learn's digits, and those of TFDS."""

import functools
import operator
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.base import PyTree
from l2ljax.checks import check_path, short
from l2ljax.tasks.data_tfds import Arrays, cache_directory, read_tfds, split_error

__all__ = ["Images", "cache_directory", "check_images", "load_dataset"]


class Images(NamedTuple):
    """Labelled images, as `load_dataset` gives them.

    Attributes:
        images: uint8 (0 ... 255) or float `[n, height, width, channels]`.
        labels: int32 `[n]`.

    Example:
        >>> threes = Images(jnp.zeros((2, 8, 8, 1), jnp.uint8), jnp.full(2, 3, jnp.int32))
        >>> threes.images.shape[0] == threes.labels.shape[0]
        True
    """

    images: jax.Array
    labels: jax.Array


def load_dataset(
    name: str,
    split: str,
    labels: Sequence[int] | None = None,
    data_dir: str | os.PathLike | None = None,
) -> Images:
    """An image-classification data set, whole, on the default device.

    Called again with the same arguments it returns the same arrays.

    Args:
        name: a TFDS data set with the features `image` (of one size, uint8) and `label`, such as
            "mnist", "cifar10" or "mnist:3.0.1". Or "digits", the 1,797 handwritten 8 x 8 digits
            that scikit-learn brings along, their 17 grey levels rescaled to 0..255: of each class,
            every fifth image is in "test" (355) and the others are in "train" (1,442).
        split: a split or a part of it in TFDS's syntax: "train", "test[:1000]", "train[80%:]",
            "train+test". Of "digits": "train", "test" and slices such as "train[:100]".
        labels: the classes to keep, renumbered 0, 1, ... in the given order; default: all.
        data_dir: where TFDS keeps prepared data sets; default: the environment variable
            `TFDS_DATA_DIR`, else TFDS's own, `~/tensorflow_datasets`. A data set that is not there
            is downloaded and prepared, if TensorFlow is installed.

    Returns:
        `Images` with `images` uint8 `[n, height, width, channels]` and `labels` int32 `[n]`.

    Raises:
        ValueError: for an unknown data set, version or split, an empty split, a data set without
            images of one size and integer labels or prepared in a format other than array_record,
            and for labels that are none, repeated, or not in the split.
        ModuleNotFoundError: if what reads the data set is not installed (scikit-learn for "digits",
            tensorflow-datasets for the others), or the data set is yet to be prepared and
            TensorFlow is not installed.

    Example:
        >>> digits = load_dataset("digits", "train")
        >>> digits.images.shape, str(digits.images.dtype), digits.labels.shape
        ((1442, 8, 8, 1), 'uint8', (1442,))
        >>> threes_and_fives = load_dataset("digits", "test[:100]", labels=(3, 5))
        >>> sorted(set(threes_and_fives.labels.tolist()))
        [0, 1]
    """
    for argument, value, example in (("name", name, "mnist"), ("split", split, "train")):
        if not isinstance(value, str):
            raise ValueError(
                f"{argument} must be a string such as {example!r}, got {short(value)}."
            )
    if data_dir is None:
        data_dir = os.environ.get("TFDS_DATA_DIR", "")
    check_path("data_dir", data_dir)
    data_dir = os.path.expanduser(os.fspath(data_dir)) or None
    if f"{data_dir}".startswith("~") or not (data_dir or cache_directory() or name == "digits"):
        raise ValueError(
            f"data_dir={data_dir} needs a home directory, and this user has none here; "
            "give a data_dir that does not begin with ~, or set HOME."
        )
    return _load(name, split, _check_labels(labels), data_dir)


def check_images(dataset: PyTree) -> Images:
    """`dataset` as `Images` on the device.

    Raises:
        ValueError: if it is not a pair of images and as many integer labels, at least one, or the
            images are neither uint8 nor floats.
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
    if images.dtype != jnp.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            "dataset must hold images as uint8, which are scaled to [0, 1], or as floats, got "
            f"{images.dtype}; give images.astype(numpy.uint8), or floats."
        )
    return Images(images, labels)


@functools.cache
def _load(name: str, split: str, labels: tuple[int, ...] | None, data_dir: str | None) -> Images:
    arrays = _read_digits(split) if name == "digits" else read_tfds(name, split, data_dir)
    if labels is not None:
        arrays = _keep_labels(arrays, labels, f"split {split!r} of data set {name!r}")
    with jax.ensure_compile_time_eval():  # arrays, never tracers, even when called under jit
        return Images(*map(jnp.asarray, arrays))


def _check_labels(labels: Sequence[int] | None) -> tuple[int, ...] | None:
    if labels is None:
        return None
    try:
        chosen = tuple(map(operator.index, labels))
    except TypeError:
        chosen = ()
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(
            "labels must be one or more different class numbers such as (3, 5), got "
            f"{short(labels)}; leave it out to keep all classes."
        )
    return chosen


def _keep_labels(arrays: Arrays, chosen: tuple[int, ...], where: str) -> Arrays:
    images, labels = arrays
    present = np.unique(labels).tolist()
    missing = [label for label in chosen if label not in present]
    if missing:
        some = ", ".join(map(str, present[:20])) + (", ..." if len(present) > 20 else "")
        raise ValueError(f"labels {missing} are not in {where}; choose from its classes {some}.")
    rows = np.flatnonzero(np.isin(labels, chosen))
    order = np.argsort(chosen)
    new_labels = order[np.searchsorted(np.asarray(chosen)[order], labels[rows])]
    return images[rows], new_labels.astype(np.int32)


def _read_digits(split: str) -> Arrays:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Data set 'digits' comes with scikit-learn, which is not installed: run "
            '`pip install "l2ljax[data]"`.',
            name=error.name,
        ) from error

    digits: Any = load_digits()
    labels = digits.target.astype(np.int32)
    # scikit-learn's order is not shuffled enough for every fifth image to have classes in balance.
    nth_of_class = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)])
    in_test = nth_of_class % 5 == 4
    parts = {"train": np.flatnonzero(~in_test), "test": np.flatnonzero(in_test)}
    sizes = {part: rows.size for part, rows in parts.items()}

    match = re.fullmatch(r"(train|test)(?:\[(-?\d+)?:(-?\d+)?\])?", split)
    if match is None:
        raise split_error("digits", split, sizes, "there is no such split")
    rows = parts[match[1]]
    start, stop = int(match[2] or 0), int(match[3] or rows.size)
    if max(abs(start), abs(stop)) > rows.size or rows[start:stop].size == 0:
        raise split_error("digits", split, sizes, "it is empty or reaches beyond the end")
    rows = rows[start:stop]
    images = np.round(digits.images[rows, :, :, None] * (255 / 16)).astype(np.uint8)
    return images, labels[rows]
