"""VGG networks as feature extractors (Simonyan and Zisserman 2015, arXiv:1409.1556).

3 x 3 convolutions with ReLU in blocks, each block followed by 2 x 2 pooling. `conv3_2` is the
second convolution of the third block, after its ReLU. Weights are read from safetensors files in
torchvision's naming: `features.0.weight` `[out, in, 3, 3]`, `features.0.bias` `[out]`, the number
counting convolutions, ReLUs and poolings.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from l2ljax.base import Params
from l2ljax.checks import check_choice
from l2ljax.tasks.features import Extractor
from l2ljax.tasks.layers import convolve, max_pool

BUNDLED = Path(__file__).parents[1] / "bundled" / "weights" / "features" / "cifar10.safetensors"


class Layout(NamedTuple):
    """A network: the convolutions and channels of its blocks, and how it sees colours."""

    convolutions: tuple[int, ...]
    channels: tuple[int, ...]
    mean: tuple[float, ...]  # of red, green and blue, 0 to 1: what is subtracted
    std: tuple[float, ...]  # what that is divided by
    pooling: str
    content_tap: str
    style_taps: tuple[str, ...]


_WIDE = {
    "channels": (64, 128, 256, 512, 512),
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "pooling": "average",  # Gatys et al. (2016), section 2, though trained with "max"
    "content_tap": "conv4_2",
    "style_taps": tuple(f"conv{block}_1" for block in range(1, 6)),
}
LAYOUTS = {
    "cifar10": Layout(
        convolutions=(2, 2, 2),
        channels=(16, 32, 64),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        pooling="average",
        content_tap="conv2_1",
        style_taps=("conv1_1", "conv2_1"),
    ),
    "vgg16": Layout(convolutions=(2, 2, 3, 3, 3), **_WIDE),
    "vgg19": Layout(convolutions=(2, 2, 4, 4, 4), **_WIDE),
}
"""`cifar10` is this project's own small network; its weights come with the package."""


def vgg(
    name: str = "cifar10", path: str | os.PathLike | None = None, pooling: str | None = None
) -> Extractor:
    """A VGG network with the weights of a file.

    Args:
        name: a network in `LAYOUTS`. "cifar10" is a small one that scripts/train_features.py
            trained on CIFAR-10; "vgg16" and "vgg19" are those of the paper, without batch
            normalisation.
        path: a safetensors file in torchvision's naming; only "cifar10" has a default. Tensors
            beside the convolutions' (the classifier) are ignored.
        pooling: "average" or "max"; default: "average".

    Returns:
        an `Extractor` with the taps `conv1_1`, `conv1_2`, `conv2_1`, ..., whose params are
        `{tap: {"kernel": [3, 3, in, out], "bias": [out]}}`, float32.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for an unknown name or pooling, and for a file that is damaged, lacks a layer,
            or has one of another shape or with values that are no finite floats.

    Example:
        >>> extractor = vgg()
        >>> extractor.taps
        ('conv1_1', 'conv1_2', 'conv2_1', 'conv2_2', 'conv3_1', 'conv3_2')
        >>> extractor(jnp.zeros((32, 32, 3)), ["conv2_1"])["conv2_1"].shape
        (16, 16, 32)
    """
    check_choice("The network's name", name, list(LAYOUTS))
    layout = LAYOUTS[name]
    pooling = layout.pooling if pooling is None else pooling
    check_choice("pooling", pooling, list(POOLINGS))
    if path is None and name != "cifar10":
        raise ValueError(
            f"The weights of {name!r} do not come with l2ljax; give path, a safetensors file of "
            "them in torchvision's naming (features.0.weight, ...)."
        )
    params = _read(Path(BUNDLED if path is None else path), name, layout)

    def apply(params: Params, image: jax.Array, taps: Sequence[str]) -> dict[str, jax.Array]:
        return features(params, (image - jnp.array(layout.mean)) / jnp.array(layout.std), taps,
                        POOLINGS[pooling])  # fmt: skip

    return Extractor(params, apply, tuple(params), layout.content_tap, layout.style_taps)


def features(params: Params, image: jax.Array, taps: Sequence[str], pool: Any) -> dict[str, Any]:
    """The features at `taps`, computed no deeper than the deepest of them.

    Args:
        params: `{"conv1_1": {"kernel": ..., "bias": ...}, ...}`, from shallow to deep.
        image: float `[height, width, 3]`, as the network wants its colours.
        taps: names in `params`.
        pool: `[1, height, width, channels]` -> `[1, height // 2, width // 2, channels]`.
    """
    found, block, x = {}, "1", image[None]
    for name in sorted(params):  # "conv1_1" < "conv1_2" < "conv2_1"
        if len(found) == len(set(taps)):
            break
        if name[4] != block:
            block, x = name[4], pool(x)
        x = jax.nn.relu(convolve(x, params[name]["kernel"]) + params[name]["bias"])
        if name in taps:
            found[name] = x[0]
    return found


def average_pool(images: jax.Array) -> jax.Array:
    """The mean of each 2 x 2 block; a last odd row or column is left out.

    Example:
        >>> average_pool(jnp.arange(12.0).reshape(1, 3, 4, 1)).ravel().tolist()
        [2.5, 4.5]
    """
    n, height, width, channels = images.shape
    height, width = height // 2, width // 2
    blocks = images[:, : 2 * height, : 2 * width].reshape(n, height, 2, width, 2, channels)
    return blocks.mean(axis=(2, 4))


POOLINGS = {"average": average_pool, "max": max_pool}


def convolutions(layout: Layout) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Tap -> the layer's name in a file, and the shape of its weight there `[out, in, 3, 3]`.

    Example:
        >>> convolutions(LAYOUTS["vgg16"])["conv2_1"]
        ('features.5', (128, 64, 3, 3))
    """
    layers, number, before = {}, 0, 3
    for block, count in enumerate(layout.convolutions, start=1):
        for nth in range(1, count + 1):
            channels = layout.channels[block - 1]
            layers[f"conv{block}_{nth}"] = (f"features.{number}", (channels, before, 3, 3))
            number, before = number + 2, channels
        number += 1
    return layers


def _read(path: Path, name: str, layout: Layout) -> Params:
    if not path.is_file():
        raise FileNotFoundError(
            f"The extractor's path must be a file with the weights of {name!r}, "
            f"there is none at {path}."
        )
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            there = set(file.keys())
            wanted = [
                f"{layer}.{part}"
                for layer, _ in convolutions(layout).values()
                for part in ("weight", "bias")
            ]
            tensors = {tensor: file.get_tensor(tensor) for tensor in wanted if tensor in there}
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}).") from error
    return {
        tap: _layer(path, name, tensors, layer, shape)
        for tap, (layer, shape) in convolutions(layout).items()
    }


def _layer(
    path: Path, name: str, tensors: Mapping[str, np.ndarray], layer: str, shape: tuple[int, ...]
) -> Params:
    for tensor, expected in ((f"{layer}.weight", shape), (f"{layer}.bias", shape[:1])):
        if tensor not in tensors:
            raise ValueError(
                f"{path} lacks {tensor}, which {name!r} has {list(expected)}; give a file in "
                "torchvision's naming."
            )
        value = tensors[tensor]
        if value.shape != expected:
            raise ValueError(
                f"{tensor} in {path} has shape {list(value.shape)}, {name!r} has {list(expected)}; "
                "it is the file of another network."
            )
        if not np.issubdtype(value.dtype, np.floating) or not np.isfinite(value).all():
            raise ValueError(
                f"{tensor} in {path} must hold finite floats, but has dtype {value.dtype}"
                + (" and values that are not finite." if value.dtype.kind == "f" else ".")
            )
    kernel = tensors[f"{layer}.weight"].astype(np.float32).transpose(2, 3, 1, 0)
    bias = tensors[f"{layer}.bias"].astype(np.float32)
    return {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
