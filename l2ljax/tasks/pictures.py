"""Photographs and textures: those that scikit-image and scikit-learn ship, and a user's own files.

No picture is downloaded. Reading them needs Pillow and scikit-image: `pip install "l2ljax[art]"`.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l2ljax.checks import check_positive_int, short

CONTENT = {
    "train": ("astronaut", "camera", "coffee", "motorcycle", "rocket"),
    "test": ("cat", "china", "flower"),
}
"""Whole photographs, those to meta-train on and those to test with. Their packages say whose they
are."""

STYLES = ("brick", "grass", "gravel", "hubble", "retina", "tissue")
"""Textures: three grey ones, stars, an eye's background, and stained cells in brown and blue."""

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Of the files that a directory of pictures is searched for."""


def load_picture(source: str | os.PathLike) -> np.ndarray:
    """One picture in colours.

    Args:
        source: a name in `picture_names()`, or a file.

    Returns:
        uint8 `[height, width, 3]`; of a grey picture, three equal channels.

    Raises:
        FileNotFoundError: if it is neither; lists the names.
        ValueError: for a file that is no picture, or a damaged one.
        ModuleNotFoundError: without Pillow or scikit-image.

    Example:
        >>> load_picture("cat").shape
        (300, 451, 3)
    """
    if source in PACKAGED:
        picture = np.asarray(PACKAGED[str(source)]())
        return np.repeat(picture[:, :, None], 3, axis=2) if picture.ndim == 2 else picture
    if not isinstance(source, str | os.PathLike) or not Path(source).is_file():
        raise FileNotFoundError(
            f"There is no picture {short(source)}: it is no file, and the pictures that come with "
            f"the packages are {', '.join(picture_names())}."
        )
    pillow = _pillow()
    try:
        with pillow.open(source) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise ValueError(f"{source} is damaged or no picture ({error}).") from error


def load_content(
    source: str | os.PathLike | Sequence[str], size: int, num_crops: int = 64, seed: int = 0
) -> np.ndarray:
    """Square crops of photographs, all of one size.

    Of each photograph the first crop is the largest square in its middle. The others have half of
    that side and more, lie anywhere, and every other one is mirrored.

    Args:
        source: "train" or "test", see `CONTENT`; a directory of pictures; or a list of names and
            files, as `load_picture` takes them.
        size: height and width of the crops.
        num_crops: of each photograph.
        seed: of the places; equal arguments give equal crops.

    Returns:
        uint8 `[photographs * num_crops, size, size, 3]`, photograph after photograph.

    Raises:
        FileNotFoundError, ValueError: if there is no picture, or one is smaller than `size`; as
            `load_picture`.

    Example:
        >>> load_content("test", 32, num_crops=2).shape
        (6, 32, 32, 3)
    """
    check_positive_int("num_crops", num_crops)
    random = np.random.default_rng(seed)
    crops = []
    for name in _sources(source):
        picture = load_picture(name)
        crops.append(resize_square(picture, size, name=str(name)))
        short_side = min(picture.shape[:2])
        for nth in range(1, num_crops):
            side = random.integers(max(size, short_side // 2), short_side, endpoint=True)
            top, left = (random.integers(0, n - side, endpoint=True) for n in picture.shape[:2])
            crop = resize_square(picture[top : top + side, left : left + side], size)
            crops.append(crop[:, ::-1] if nth % 2 else crop)
    return np.stack(crops)


def resize_square(picture: np.ndarray, size: int, *, name: str = "the picture") -> np.ndarray:
    """The largest square in a picture's middle, brought to one size.

    Args:
        picture: uint8 `[height, width, 3]`.
        size: height and width wanted.
        name: of the picture, for the error.

    Returns:
        uint8 `[size, size, 3]`.

    Raises:
        ValueError: if the picture is smaller than that.
    """
    check_positive_int("size", size)
    height, width, _ = picture.shape
    side = min(height, width)
    if side < size:
        raise ValueError(
            f"{name} has {height} x {width} pixels, less than size={size}; give a larger picture "
            "or a smaller size."
        )
    top, left = (height - side) // 2, (width - side) // 2
    image = _pillow().fromarray(picture[top : top + side, left : left + side])
    return np.asarray(image.resize((size, size), _pillow().Resampling.LANCZOS))


def picture_names() -> list[str]:
    """Names of the pictures that come with the packages.

    Example:
        >>> {"astronaut", "china", "gravel"} <= set(picture_names())
        True
    """
    return sorted(PACKAGED)


def _sources(source: Any) -> Sequence[Any]:
    if not isinstance(source, str | os.PathLike):
        if isinstance(source, Sequence) and source:
            return source
    elif source in CONTENT:
        return CONTENT[str(source)]
    elif Path(source).is_dir():
        files = sorted(p for p in Path(source).iterdir() if p.suffix.lower() in SUFFIXES)
        if not files:
            raise ValueError(
                f"The directory {source} holds no picture ({', '.join(SUFFIXES)}); add one."
            )
        return files
    raise FileNotFoundError(
        'content must be "train", "test", a directory of pictures, or a list of names and files, '
        f"got {short(source)}."
    )


def _needed(package: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f'Pictures need {package}, which is not installed; run: pip install "l2ljax[art]"'
    )


def _pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise _needed("Pillow") from error
    return Image


def _skimage(name: str) -> Callable[[], Any]:
    def load() -> Any:
        try:
            from skimage import data
        except ModuleNotFoundError as error:
            raise _needed("scikit-image") from error
        return getattr(data, name)()

    return load


def _sklearn(name: str) -> Callable[[], Any]:
    def load() -> Any:
        from sklearn import datasets

        _pillow()  # which scikit-learn reads it with
        return datasets.load_sample_image(name)

    return load


PACKAGED: dict[str, Callable[[], Any]] = {
    "astronaut": _skimage("astronaut"),
    "brick": _skimage("brick"),
    "camera": _skimage("camera"),
    "cat": _skimage("cat"),
    "china": _sklearn("china.jpg"),
    "coffee": _skimage("coffee"),
    "flower": _sklearn("flower.jpg"),
    "grass": _skimage("grass"),
    "gravel": _skimage("gravel"),
    "hubble": _skimage("hubble_deep_field"),
    "motorcycle": lambda: _skimage("stereo_motorcycle")()[0],
    "retina": _skimage("retina"),
    "rocket": _skimage("rocket"),
    "tissue": _skimage("immunohistochemistry"),
}
