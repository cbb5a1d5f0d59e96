"""Image data sets of TFDS as NumPy arrays, without TensorFlow once they are prepared.

The only importer of tensorflow_datasets, and a lazy one. Decoding 60,000 images takes seconds, so
what was decoded is kept on disk, in `$L2LJAX_CACHE_DIR`, else `$XDG_CACHE_HOME/l2ljax`, else
`~/.cache/l2ljax`; any file there may be deleted at any time.
"""

import contextlib
import difflib
import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from l2ljax.checks import short, shorten

Arrays = tuple[np.ndarray, np.ndarray]  # images uint8 [n, h, w, c] and labels int32 [n]


def read_tfds(name: str, split: str, data_dir: str | None) -> Arrays:
    """A split of a TFDS data set, decoded now or before.

    Raises:
        ValueError: see `l2ljax.load_dataset`.
        ModuleNotFoundError: likewise.
    """
    with _quiet_absl():
        _check_installed(name)
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


def _check_installed(name: str) -> None:
    try:
        import tensorflow_datasets  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Data set {short(name)} is read by tensorflow-datasets, which is not whole here "
            f'({error.name} is not installed): run `pip install "l2ljax[data]"`.',
            name=error.name,
        ) from error


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
        raise split_error(name, split, {s: i.num_examples for s, i in splits.items()}, reason)
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


def cache_directory() -> Path | None:
    """`$XDG_CACHE_HOME/l2ljax`, else `~/.cache/l2ljax`; `None` for a user without a home."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return None if caches.startswith("~") else Path(caches) / "l2ljax"


def split_error(name: str, split: str, sizes: Mapping[str, int], why: str) -> ValueError:
    """What is raised for a split that cannot be read: `sizes` are those that can be."""
    splits = ", ".join(f"{split!r} ({size} images)" for split, size in sizes.items())
    return ValueError(
        f"Split {short(split)} of data set {name!r} cannot be read ({shorten(why, 160)}); "
        f"choose from its splits {splits}, or a part of one such as 'train[:100]'."
    )
