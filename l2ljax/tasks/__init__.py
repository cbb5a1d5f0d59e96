"""Families of optimizees: one file each, and one line each in `BUILDERS`."""

from collections.abc import Callable

import jax

from l2ljax.base import Task
from l2ljax.tasks import suite, transforms
from l2ljax.tasks._autoencoder import autoencoder
from l2ljax.tasks._convnet import accuracy, convnet
from l2ljax.tasks._equations import oscillator, poisson
from l2ljax.tasks._image_convnet import image_convnet
from l2ljax.tasks._image_mlp import image_mlp
from l2ljax.tasks._inversion import feature_inversion
from l2ljax.tasks._language import byte_model
from l2ljax.tasks._mlp import mlp
from l2ljax.tasks._neural_art import Art, neural_art, photograph
from l2ljax.tasks._quadratic import quadratic
from l2ljax.tasks._regression import implicit_field, teacher
from l2ljax.tasks._surfaces import factorisation, rosenbrock, valley
from l2ljax.tasks.resizing import resized

BUILDERS: dict[str, Callable[..., Task]] = {
    "quadratic": quadratic,
    "mlp": mlp,
    "convnet": convnet,
    "neural_art": neural_art,
    "image_mlp": image_mlp,
    "image_convnet": image_convnet,
    "autoencoder": autoencoder,
    "byte_model": byte_model,
    "teacher": teacher,
    "implicit_field": implicit_field,
    "feature_inversion": feature_inversion,
    "poisson": poisson,
    "oscillator": oscillator,
    "valley": valley,
    "rosenbrock": rosenbrock,
    "factorisation": factorisation,
}
"""Name in configs -> builder. A new task adds its line here."""

ACCURACY: dict[str, Callable[..., jax.Array]] = {"convnet": accuracy}
"""Name in configs -> `(params, images, labels) -> share of images classified rightly`, if any."""

CLUSTERS: dict[type, Callable[..., jax.Array]] = {Art: photograph}
"""Kind of a task's data -> `(data, key)`, as `sample` is called with -> a label that all optimizees
share which are no independent draws."""


def cluster_of(task: Task) -> Callable[..., jax.Array] | None:
    """What tells which of the task's optimizees are no independent draws; `None` if all are.

    By its data, so that it holds for what a transform made of the task, and under any name.

    Args:
        task: any.

    Returns:
        `(data, key) -> label`, called as `task.sample` is: optimizees of one label, such as crops
        of one photograph, are a cluster to intervals.

    Example:
        >>> cluster_of(quadratic()) is None
        True
    """
    return CLUSTERS.get(type(task.data))


__all__ = [
    "ACCURACY",
    "BUILDERS",
    "autoencoder",
    "byte_model",
    "cluster_of",
    "convnet",
    "factorisation",
    "feature_inversion",
    "image_convnet",
    "image_mlp",
    "implicit_field",
    "mlp",
    "neural_art",
    "oscillator",
    "poisson",
    "quadratic",
    "resized",
    "rosenbrock",
    "suite",
    "teacher",
    "transforms",
    "valley",
]
