"""The tasks that learned optimizers are trained on, and those that they are judged by.

Each is marked "train" or "held_out" in `ENTRIES`, for good: a held-out task is never used to train,
to select or to tune a recipe, and none ever changes sides. Those with an `envelope` are defined as
in VeLO's suite (Metz et al. 2022, arXiv:2211.09760) and bear the names of its published curves; of
the CIFAR-10 ones one must know which files they were run on.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

import jax.numpy as jnp

from l2ljax.base import Task
from l2ljax.checks import check_choice
from l2ljax.tasks import transforms
from l2ljax.tasks._autoencoder import autoencoder
from l2ljax.tasks._convnet import convnet
from l2ljax.tasks._equations import oscillator, poisson
from l2ljax.tasks._image_convnet import image_convnet
from l2ljax.tasks._image_mlp import image_mlp
from l2ljax.tasks._inversion import feature_inversion
from l2ljax.tasks._language import byte_model
from l2ljax.tasks._mlp import mlp
from l2ljax.tasks._neural_art import neural_art
from l2ljax.tasks._quadratic import quadratic
from l2ljax.tasks._regression import implicit_field, teacher
from l2ljax.tasks._surfaces import factorisation, rosenbrock, valley
from l2ljax.tasks.data import Images, load_dataset
from l2ljax.tasks.resizing import resized

Split = Literal["train", "held_out"]


class Entry(NamedTuple):
    """One task of the suite.

    Attributes:
        split: "train" or "held_out".
        build: makes the task; reads its data set when called.
        small: cheap enough for 10,000 steps on two cores.
        floor: ratios of final losses count this much as the least loss, as a share of the loss at
            the start: below it a task is solved, and rounding decides no more.
        envelope: name of the published curve, if there is one.

    Example:
        >>> import jax
        >>> entry = Entry("train", lambda: quadratic(dim=3))
        >>> entry.build().init((), jax.random.key(0)).shape
        (3,)
    """

    split: Split
    build: Callable[[], Task]
    small: bool = True
    floor: float = 1e-6
    envelope: str | None = None


class Tasks(Mapping[str, Task]):
    """Name -> task; each is built, and its data read, when it is asked for first.

    Args:
        split: "train" or "held_out".

    Example:
        >>> held_out = Tasks("held_out")
        >>> "rosenbrock" in held_out, len(held_out) + len(Tasks("train")) == len(ENTRIES)
        (True, True)
    """

    def __init__(self, split: Split):
        self._names = [name for name, entry in ENTRIES.items() if entry.split == split]

    def __getitem__(self, name: str) -> Task:
        if name not in self._names:
            raise KeyError(name)
        return _built(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names  # without building it

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def tasks(split: Split) -> Mapping[str, Task]:
    """The suite's tasks of one side.

    Args:
        split: "train" or "held_out".

    Returns:
        a mapping name -> `Task` that builds each task when it is first asked for. Those on MNIST
        and CIFAR-10 read them as `l2ljax.load_dataset` does (`TFDS_DATA_DIR`).

    Raises:
        ValueError: for another split.

    Example:
        >>> train = tasks("train")
        >>> "rosenbrock" in train, "quadratic" in train
        (False, True)
        >>> train["quadratic"].loss is not None
        True
    """
    check_choice("split", split, ["train", "held_out"])
    return Tasks(split)


@functools.lru_cache(maxsize=64)
def _built(name: str) -> Task:
    return ENTRIES[name].build()


@functools.lru_cache(maxsize=8)
def _images(name: str, size: int | None = None, grey: bool = False) -> Images:
    images = load_dataset(name, "train")
    return images if size is None else resized(images, size, grey=grey)


@functools.cache
def _table(name: str) -> Images:
    """A table of scikit-learn's as examples with features of mean 0 and variance 1."""
    from sklearn import datasets

    table = getattr(datasets, f"load_{name}")()
    x = (table.data - table.data.mean(0)) / table.data.std(0)
    return Images(jnp.asarray(x, jnp.float32), jnp.asarray(table.target, jnp.int32))


def _cifar_mlp(hidden=(128, 128, 128), activation="relu", **options) -> Callable[[], Task]:
    return lambda: image_mlp(_images("cifar10"), hidden, activation, **options)


def _scaled(build: Callable[[], Task], low: float, high: float) -> Callable[[], Task]:
    """Other units: all parameters times one factor, log-uniform from `low` to `high`."""
    return lambda: transforms.random_scale(build(), low, high)


_TRAIN: dict[str, Entry] = {
    name: Entry("train", build)
    for name, build in {
        "quadratic": quadratic,
        "valley-20": lambda: valley(20, 1e3),
        "valley-noisy": lambda: valley(10, 100.0, noise=0.3),
        "factorisation-30": factorisation,
        "teacher-8": teacher,
        "inversion-32": feature_inversion,
        "oscillator-32": oscillator,
        "neural-art-32": lambda: neural_art("train", "retina", size=32),
        "neural-art-64-retina": lambda: neural_art("train", "retina"),
        "neural-art-64-gravel": lambda: neural_art("train", "gravel"),
        "breast-cancer-linear": lambda: image_mlp(_table("breast_cancer"), (), batch_size=32),
        "digits-relu-32": lambda: image_mlp(load_dataset("digits", "train"), (32,), batch_size=64),
        "digits-tanh-64x32": lambda: image_mlp(
            load_dataset("digits", "train"), (64, 32), "tanh", batch_size=64, init_scale=0.5
        ),
        "digits-layernorm-128": lambda: image_mlp(
            load_dataset("digits", "train"), (128,), normalisation="layer", batch_size=32
        ),
        "digits-autoencoder": lambda: autoencoder(load_dataset("digits", "train"), (32, 8, 32), 64),
        "digits-convnet": lambda: image_convnet(
            load_dataset("digits", "train"), (8, 16), batch_size=32
        ),
        "mnist8-relu-32": lambda: image_mlp(_images("mnist", 8), (32,), batch_size=64),
        "mnist8-relu-64x64x64": lambda: image_mlp(_images("mnist", 8), (64,) * 3, batch_size=64),
        "mnist14-sigmoid-20": lambda: image_mlp(_images("mnist", 14), (20,), "sigmoid"),
        "cifar8-grey-relu-32": lambda: image_mlp(_images("cifar10", 8, True), (32,), batch_size=64),
        "cifar8-tanh-128": lambda: image_mlp(_images("cifar10", 8), (128,), "tanh", batch_size=64),
        "bytes-gru-32": lambda: byte_model("gru", 32, 1, 16, 16),
        "bytes-transformer-16": lambda: byte_model("transformer", 16, 1, 16, 16),
        "bytes-transformer-32x2": lambda: byte_model("transformer", 32, 2, 16, 16),
    }.items()
}

_PUBLISHED: dict[str, tuple[str, bool, Callable[[], Task]]] = {
    "cifar8-relu-32": (
        "ImageMLP_Cifar10_8_Relu32",
        True,
        lambda: image_mlp(_images("cifar10", 8), (32,)),
    ),
    "mnist-relu-128x128x128": (
        "ImageMLP_Mnist_128x128x128_Relu",
        True,
        lambda: image_mlp(_images("mnist")),
    ),
    "cifar-relu-128x128x128": ("ImageMLP_Cifar10_128x128x128_Relu", False, _cifar_mlp()),
    "cifar-tanh-128x128x128": (
        "ImageMLP_Cifar10_128x128x128_Tanh_bs128",
        False,
        _cifar_mlp(activation="tanh"),
    ),
    "cifar-layernorm-relu": (
        "ImageMLP_Cifar10_128x128x128_LayerNorm_Relu",
        False,
        _cifar_mlp(normalisation="layer"),
    ),
    "cifar-batchnorm-relu": (
        "ImageMLP_Cifar10_128x128x128_BatchNorm_Relu",
        False,
        _cifar_mlp(normalisation="batch"),
    ),
    "cifar-relu-squared": (
        "ImageMLP_Cifar10_128x128x128_Relu_MSE",
        False,
        _cifar_mlp(loss="squared"),
    ),
    "cifar-dropout-squared": (
        "ImageMLP_Cifar10_128x128_Dropout02_Relu_MSE",
        False,
        _cifar_mlp((128, 128), dropout=0.2, loss="squared"),
    ),
    "cifar-relu-256x256": ("ImageMLP_Cifar10_256x256_Relu", False, _cifar_mlp((256, 256))),
    "mnist-autoencoder": (
        "ImageMLPAE_Mnist_128x32x128_bs128",
        False,
        lambda: autoencoder(_images("mnist")),
    ),
    "cifar-autoencoder": (
        "ImageMLPAE_Cifar10_32x32x32_bs128",
        False,
        lambda: autoencoder(_images("cifar10"), (32, 32, 32)),
    ),
    "cifar16-convnet": (
        "Conv_Cifar10_16_32x64x64",
        False,
        lambda: image_convnet(_images("cifar10", 16)),
    ),
    "cifar-convnet-tanh": (
        "Conv_Cifar10_32x64x64_Tanh",
        False,
        lambda: image_convnet(_images("cifar10"), activation="tanh"),
    ),
    "cifar-convnet-batchnorm": (
        "Conv_Cifar10_32x64x64_batchnorm",
        False,
        lambda: image_convnet(_images("cifar10"), normalisation="batch"),
    ),
    "mnist-es-1": (
        "ESWrapped_1pair_ImageMLP_Mnist_128x128x128_Relu",
        True,
        lambda: transforms.es_gradients(image_mlp(_images("mnist")), 1),
    ),
    "mnist-es-8": (
        "ESWrapped_8pair_ImageMLP_Mnist_128x128x128_Relu",
        False,
        lambda: transforms.es_gradients(image_mlp(_images("mnist")), 8),
    ),
}

_OWN: dict[str, tuple[bool, Callable[[], Task]]] = {
    "rosenbrock": (True, rosenbrock),
    "valley-100": (True, lambda: valley(100, 1e4)),
    "mnist-sigmoid-20": (True, lambda: mlp(_images("mnist"))),
    "mnist-sigmoid-20-small-init": (True, lambda: mlp(_images("mnist"), init_stddev=0.01)),
    "mnist-relu-20": (True, lambda: mlp(_images("mnist"), activation="relu")),
    "mnist-sigmoid-20x20": (True, lambda: mlp(_images("mnist"), (20, 20))),
    "mnist-gelu-64-large-init": (
        True,
        lambda: image_mlp(_images("mnist"), (64, 64), "gelu", init_scale=3.0),
    ),
    "digits-relu-small-scale": (
        True,
        _scaled(lambda: image_mlp(load_dataset("digits", "train"), (48,)), 0.01, 0.1),
    ),
    "wine-softmax": (True, lambda: image_mlp(_table("wine"), (), batch_size=32)),
    "factorisation-60": (True, lambda: factorisation(60, 40, 5, init_scale=0.01)),
    "implicit-field": (True, implicit_field),
    "poisson": (True, poisson),
    "bytes-gru-128": (False, lambda: byte_model("gru", 128, 1, 32, 32)),
    "bytes-transformer-64": (False, byte_model),
    "cifar-convnet": (False, lambda: convnet(_images("cifar10"))),
    "neural-art-64": (False, lambda: neural_art("test", "tissue", size=64)),
}

ENTRIES: Mapping[str, Entry] = {
    **_TRAIN,
    **{
        name: Entry("held_out", build, small, envelope=envelope)
        for name, (envelope, small, build) in _PUBLISHED.items()
    },
    **{name: Entry("held_out", build, small) for name, (small, build) in _OWN.items()},
}
"""Every task of the suite; none moves from one side to the other."""
