"""Families of optimizees: one file each, and one line each in `BUILDERS`."""

from collections.abc import Callable

import jax

from l2ljax.base import Task
from l2ljax.tasks._convnet import accuracy, convnet
from l2ljax.tasks._mlp import mlp
from l2ljax.tasks._neural_art import neural_art, photograph
from l2ljax.tasks._quadratic import quadratic

BUILDERS: dict[str, Callable[..., Task]] = {
    "quadratic": quadratic,
    "mlp": mlp,
    "convnet": convnet,
    "neural_art": neural_art,
}
"""Name in configs -> builder. A new task adds its line here."""

ACCURACY: dict[str, Callable[..., jax.Array]] = {"convnet": accuracy}
"""Name in configs -> `(params, images, labels) -> share of images classified rightly`, if any."""

CLUSTERS: dict[str, Callable[..., jax.Array]] = {"neural_art": photograph}
"""Name in configs -> `(data, key)`, as `sample` is called with -> a label that all optimizees share
which are no independent draws, where a task has such."""

__all__ = ["ACCURACY", "BUILDERS", "CLUSTERS", "convnet", "mlp", "neural_art", "quadratic"]
