"""Families of optimizees: one file each, and one line each in `BUILDERS`."""

from collections.abc import Callable

from l2ljax.base import Task
from l2ljax.tasks.convnet import convnet
from l2ljax.tasks.mlp import mlp
from l2ljax.tasks.quadratic import quadratic

BUILDERS: dict[str, Callable[..., Task]] = {
    "quadratic": quadratic,
    "mlp": mlp,
    "convnet": convnet,
}
"""Name in configs -> builder. A new task adds its line here."""

__all__ = ["BUILDERS", "convnet", "mlp", "quadratic"]
