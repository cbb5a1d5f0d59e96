"""Meshes of one's own inside a program that has others.

JAX lets no computation use two meshes at once, and types each array with the mesh that it was made
in. What runs on a mesh of its own here leaves that of its caller for as long, and moves what the
caller made there.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from l2ljax.base import PyTree

Method = TypeVar("Method", bound=Callable[..., Any])

TASKS = "tasks"
"""Name of the mesh axis that task batches are split over."""

COORDINATES = "coordinates"
"""Name of the mesh axis that the learned optimizer's coordinates are split over."""


@functools.cache
def auto(mesh: Mesh) -> Mesh:
    """`mesh` with its axes "tasks" and "coordinates" of the type Auto.

    `jax.make_mesh` makes axes of the type Explicit, along which every array would have to be split
    by hand before `over_tasks` splits it. Further axes stay as they are: they are the task's.
    """
    types = [
        AxisType.Auto if name in (TASKS, COORDINATES) else kind
        for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True)
    ]
    return Mesh(mesh.devices, mesh.axis_names, axis_types=tuple(types))


@contextlib.contextmanager
def outside_other_meshes(mesh: Mesh | None) -> Iterator[None]:
    """What runs here is not in a context mesh (`jax.set_mesh`) other than `mesh`, if that is one.

    Raises:
        ValueError: where a computation in a mesh with Explicit axes is being traced already.
    """
    context = jax.sharding.get_abstract_mesh()
    if mesh is None or context.empty or context == auto(mesh).abstract_mesh:
        yield
        return
    try:
        no_mesh = jax.set_mesh(Mesh(np.empty((), object), ()))
    except ValueError:  # which JAX raises while it traces a computation
        if AxisType.Explicit in context.axis_types:
            raise ValueError(
                f"An estimator on the mesh {dict(mesh.shape)} cannot be part of a computation in "
                f"the context mesh {dict(context.shape)} with Explicit axes; call what uses it "
                "outside jax.set_mesh."
            ) from None
        no_mesh = jax.sharding.use_abstract_mesh(AbstractMesh((), ()))
    with no_mesh:
        yield


def in_own_mesh(method: Method) -> Method:
    """Decorates a method of what has a field `mesh`: it and its arguments are in no other mesh."""

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        with outside_other_meshes(self.mesh):
            args, kwargs = moved_onto(self.mesh, (args, kwargs))
            return method(self, *args, **kwargs)

    return run  # pyright: ignore[reportReturnType]


def moved_onto(mesh: Mesh | None, tree: PyTree) -> PyTree:
    """`tree` with what lies on another mesh on all devices of `mesh`; the rest as it is."""

    def move(leaf: Any) -> Any:
        if isinstance(leaf, Tracer) or not isinstance(leaf, jax.Array):
            return leaf
        sharding = leaf.sharding
        if not isinstance(sharding, NamedSharding) or sharding.mesh == own:
            return leaf
        other = sharding.mesh  # the same devices, perhaps, with axes of another type
        alike = (
            isinstance(other, Mesh)
            and other.axis_names == own.axis_names
            and np.array_equal(other.devices, own.devices)
        )
        return jax.device_put(leaf, NamedSharding(own, sharding.spec if alike else P()))

    if mesh is None:
        return tree
    own = auto(mesh)
    return jax.tree.map(move, tree)
