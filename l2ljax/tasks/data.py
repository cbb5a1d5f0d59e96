"""Image data sets as device arrays, through TFDS and without TensorFlow.

The only importer of tensorflow_datasets, and a lazy one. Decoding 60,000 images takes seconds, so
what was decoded is kept on disk, in `$L2LJAX_CACHE_DIR`, else `$XDG_CACHE_HOME/l2ljax`, else
`~/.cache/l2ljax`; any file there may be deleted at any time.
"""

import contextlib
import difflib
import functools
import hashlib
import importlib.util
import operator
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.base import PyTree
from l2ljax.checks import check_path, short, shorten

Arrays = tuple[np.ndarray, np.ndarray]  # images uint8 [n, h, w, c] and labels int32 [n]


class Images(NamedTuple):
    """Labelled images: `images` `[n, height, width, channels]`, `labels` `[n]` int32."""

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
        ModuleNotFoundError: if the data set is yet to be prepared and TensorFlow is not installed.

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


def cache_directory() -> Path | None:
    """`$XDG_CACHE_HOME/l2ljax`, else `~/.cache/l2ljax`; `None` for a user without a home."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return None if caches.startswith("~") else Path(caches) / "l2ljax"


def check_images(dataset: PyTree) -> Images:
    """`dataset` as `Images` on the device.

    Raises:
        ValueError: if it is not a pair of images and as many integer labels, at least one.
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
    return Images(images, labels)


@functools.cache
def _load(name: str, split: str, labels: tuple[int, ...] | None, data_dir: str | None) -> Images:
    arrays = _read_digits(split) if name == "digits" else _read_tfds(name, split, data_dir)
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


def _split_error(name: str, split: str, sizes: Mapping[str, int], why: str) -> ValueError:
    splits = ", ".join(f"{split!r} ({size} images)" for split, size in sizes.items())
    return ValueError(
        f"Split {short(split)} of data set {name!r} cannot be read ({shorten(why, 160)}); "
        f"choose from its splits {splits}, or a part of one such as 'train[:100]'."
    )


def _read_digits(split: str) -> Arrays:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    labels = digits.target.astype(np.int32)
    # scikit-learn's order is not shuffled enough for every fifth image to have classes in balance.
    nth_of_class = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)])
    in_test = nth_of_class % 5 == 4
    parts = {"train": np.flatnonzero(~in_test), "test": np.flatnonzero(in_test)}
    sizes = {part: rows.size for part, rows in parts.items()}

    match = re.fullmatch(r"(train|test)(?:\[(-?\d+)?:(-?\d+)?\])?", split)
    if match is None:
        raise _split_error("digits", split, sizes, "there is no such split")
    rows = parts[match[1]]
    start, stop = int(match[2] or 0), int(match[3] or rows.size)
    if max(abs(start), abs(stop)) > rows.size or rows[start:stop].size == 0:
        raise _split_error("digits", split, sizes, "it is empty or reaches beyond the end")
    rows = rows[start:stop]
    images = np.round(digits.images[rows, :, :, None] * (255 / 16)).astype(np.uint8)
    return images, labels[rows]


def _read_tfds(name: str, split: str, data_dir: str | None) -> Arrays:
    with _quiet_absl():
        builder = _builder(name, data_dir)
        image_shape = _check_features(name, builder.info.features)
        if not builder.is_prepared():
            _prepare(name, data_dir, builder.data_path)
            builder = _builder(name, data_dir)
        source = _data_source(name, split, builder)
        path = _cache_path(builder, split)
        arrays = _read_cache(path, (len(source), *image_shape)) if path else None
        if arrays is None:
            arrays = _decode(name, source, image_shape, builder.data_path)
            if path:
                _write_cache(path, arrays)
    return arrays


@contextlib.contextmanager
def _quiet_absl() -> Iterator[None]:
    """TFDS warns through absl of what nobody needs to act on, such as OpenCV not being there."""
    from absl import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _builder(name: str, data_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir)
    except (ValueError, AssertionError) as error:
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        close = difflib.get_close_matches(name, known, n=3) or ["digits", "mnist", "cifar10"]
        reason = str(error).splitlines()[0].rpartition('}": ')[2].split(". ")[0].rstrip(".")
        raise ValueError(
            f"There is no data set {short(name)} ({shorten(reason, 160)}); "
            "name must be 'digits' or a TFDS data set, "
            f"written 'name', 'name:version' or 'name/config', such as {', '.join(close)}."
        ) from error


def _check_features(name: str, features: Any) -> tuple[int, ...]:
    """The shape of an image."""
    import tensorflow_datasets as tfds

    known: dict[str, Any] = {}
    if isinstance(features, tfds.features.FeaturesDict):
        known = dict(features.items())
    image, label = known.get("image"), known.get("label")
    is_label = label is not None and label.shape == () and np.issubdtype(label.np_dtype, np.integer)
    if not isinstance(image, tfds.features.Image) or not is_label:
        raise ValueError(
            f"Data set {name!r} has the features {', '.join(known) or 'of another kind'}; "
            "load_dataset needs an image `image` and an integer `label`."
        )
    shape, dtype = known["image"].shape, np.dtype(known["image"].np_dtype)
    if None in shape or dtype != np.uint8:
        raise ValueError(
            f"Data set {name!r} has images of shape {shape} and dtype {dtype}; load_dataset needs "
            "images of one size, in uint8 (None stands for a varying size: resize such images in a "
            "TFDS builder of your own)."
        )
    return shape


def _prepare(name: str, data_dir: str | None, directory: os.PathLike) -> None:
    import tensorflow_datasets as tfds

    if importlib.util.find_spec("tensorflow") is None:
        options = f"--data_dir={data_dir} " if data_dir else ""
        raise ModuleNotFoundError(
            f"Data set {name!r} is not prepared in {directory}, and preparing it needs TensorFlow, "
            'which is not installed: run `pip install "l2ljax[prepare]"` and call again (or run '
            f"`tfds build {name} {options}--file_format=array_record`), or pass as data_dir a "
            "directory where the data set is prepared.",
            name="tensorflow",
        )
    tfds.builder(name, data_dir=data_dir, file_format="array_record").download_and_prepare()


def _data_source(name: str, split: str, builder: Any) -> Any:
    splits = builder.info.splits
    try:
        reason = None if splits[split].num_examples > 0 else "it is empty"
    except (KeyError, NotImplementedError, ValueError) as error:
        reason = str(error.args[0]).splitlines()[-1].rstrip(".")
    if reason is not None:
        raise _split_error(name, split, {s: i.num_examples for s, i in splits.items()}, reason)
    try:
        return builder.as_data_source(split=split)
    except NotImplementedError as error:
        raise ValueError(
            f"Data set {name!r} is prepared in {builder.data_path} as "
            f"{builder.info.file_format.value}, which only TensorFlow reads; prepare it in another "
            f"data_dir with `tfds build {name} --file_format=array_record`."
        ) from error


def _decode(name: str, source: Any, image_shape: tuple[int, ...], directory: os.PathLike) -> Arrays:
    images = np.empty((len(source), *image_shape), np.uint8)
    labels = np.empty(len(source), np.int32)
    for start in range(0, len(source), 1024):
        rows = range(start, min(start + 1024, len(source)))
        try:
            examples = source.__getitems__(list(rows))
            images[rows] = [example["image"] for example in examples]
            labels[rows] = [example["label"] for example in examples]
        except Exception as error:  # each of TFDS's readers and decoders has its own
            reason = shorten(" ".join(f"{type(error).__name__}: {error}".split()), 160)
            raise ValueError(
                f"Data set {name!r} in {os.fspath(directory)} is damaged: examples {start} to "
                f"{rows[-1]} cannot be read ({reason}); prepare it again."
            ) from error
    return images, labels


def _cache_path(builder: Any, split: str) -> Path | None:
    """One file for a version of a data set, as it was prepared in its directory, and a split."""
    cache_dir = os.environ.get("L2LJAX_CACHE_DIR") or cache_directory()
    if cache_dir is None:
        return None
    info = Path(os.fspath(builder.data_path)).resolve() / "dataset_info.json"
    identity = repr((split, os.fspath(info), int(info.stat().st_mtime), info.read_bytes()))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return Path(cache_dir) / f"{builder.info.full_name.replace('/', '-')}-{digest}.npz"


def _read_cache(path: Path, shape: tuple[int, ...]) -> Arrays | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            images, labels = file["images"], file["labels"]
    except Exception:  # whatever is wrong with the file, decoding again is the cure
        return None
    fits = images.shape == shape and labels.shape == shape[:1]
    return (images, labels) if fits and (images.dtype, labels.dtype) == ("u1", "i4") else None


def _write_cache(path: Path, arrays: Arrays) -> None:
    """A reader never sees half a file; a directory that cannot be written costs time, no more."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder) / path.name
            np.savez(part, images=arrays[0], labels=arrays[1])
            os.replace(part, path)
