"""Meta-gradients over many devices, from the cores of one CPU to many hosts.

Along a mesh's axis `"tasks"` each device runs the optimizees it holds; the meta-gradients are
averaged and the losses gathered, little to send in a meta-update. Along an axis `"coordinates"` the
devices run the same optimizees, and each keeps and differentiates the learned optimizer for its own
part of their coordinates; the updates are gathered in every inner step. Further axes of a mesh are
left to XLA: a task that shards its parameters over one of them keeps them so.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from l2ljax.base import Key, PyTree
from l2ljax.checks import check_positive_int, short
from l2ljax.parallel.meshes import COORDINATES, TASKS, auto, outside_other_meshes

SPLIT, WHOLE = P(TASKS), P()
"""What a device gets of an array in `over_tasks`: its part of the leading axis, or all of it."""


def task_mesh(
    num_tasks: int, num_devices: int | None = None, *, coordinate_devices: int = 1
) -> Mesh | None:
    """A mesh of all devices (of all processes) for batches of `num_tasks`.

    Args:
        num_tasks: optimizees in a batch.
        num_devices: devices to use. Default: as many as divide `num_tasks`, times
            `coordinate_devices`, in a run of one process; all there are in a run of several, where
            each process must take part.
        coordinate_devices: devices that share the coordinates of the same optimizees; must divide
            `num_devices`.

    Returns:
        a mesh with the axes "tasks" and, if they are shared, "coordinates"; or `None` if one device
        is all that is used.

    Raises:
        ValueError: if there are not so many devices, or `num_tasks` cannot be split over them.

    Example:
        >>> task_mesh(num_tasks=8, num_devices=1) is None
        True
    """
    available = jax.device_count()
    check_positive_int("num_tasks", num_tasks)
    check_positive_int("coordinate_devices", coordinate_devices)
    if num_devices is None:
        most = available // coordinate_devices
        fits = [n for n in range(1, most + 1) if num_tasks % n == 0]
        several = jax.process_count() > 1
        num_devices = available if several else max(fits, default=1) * coordinate_devices
    if check_positive_int("num_devices", num_devices) > available:
        raise ValueError(f"There are {available} devices, cannot use {num_devices}.")
    if jax.process_count() > 1 and num_devices != available:
        raise ValueError(
            f"{jax.process_count()} processes must use all {available} devices, "
            f"cannot use {num_devices}."
        )
    if num_devices % coordinate_devices:
        raise ValueError(
            f"coordinate_devices={coordinate_devices} does not divide num_devices={num_devices}."
        )
    if num_devices == 1:
        return None
    sizes = {TASKS: num_devices // coordinate_devices, COORDINATES: coordinate_devices}
    if coordinate_devices == 1:
        del sizes[COORDINATES]
    mesh = jax.make_mesh(
        tuple(sizes.values()),
        tuple(sizes),
        axis_types=(AxisType.Auto,) * len(sizes),
        devices=jax.devices()[:num_devices],
    )
    check_mesh(mesh, num_tasks, ())
    return mesh


def check_mesh(mesh: Mesh | None, num_tasks: int, sharded_data: PyTree) -> None:
    """Refuses a mesh over which the tasks, or the data to be sharded, cannot be split.

    Raises:
        ValueError: without an axis "tasks", or with one whose size does not divide `num_tasks` or
            the leading axis of each leaf of `sharded_data`.
    """
    if mesh is None:
        return
    if not isinstance(getattr(mesh, "shape", None), Mapping):
        raise ValueError(f"mesh must be a jax.sharding.Mesh or None, got {short(mesh)}.")
    if TASKS not in mesh.shape:
        raise ValueError(
            f"mesh must have an axis named {TASKS!r}, got the axes {tuple(mesh.shape)}."
        )
    size = mesh.shape[TASKS]
    if num_tasks % size:
        raise ValueError(
            f"num_tasks={num_tasks} cannot be split over the {size} devices of the mesh's axis "
            f"{TASKS!r}; choose a multiple of {size}, or fewer devices."
        )
    for leaf in jax.tree.leaves(sharded_data):
        if not leaf.ndim or leaf.shape[0] % size:
            raise ValueError(
                f"shard_data=True needs data with a leading axis that {size} devices divide, "
                f"got an array of shape {leaf.shape}; cut it to a multiple of {size}."
            )


def over_tasks(
    function: Callable[..., Any], mesh: Mesh | None, in_specs: PyTree, out_specs: PyTree
) -> Callable[..., Any]:
    """`function` run on each device's share of the tasks; without a mesh, `function` itself.

    Args:
        function: of arrays; it sees the local tasks only.
        mesh: with an axis "tasks".
        in_specs: for each argument, `SPLIT` or `WHOLE`.
        out_specs: the same for the results; what is whole must be equal on all devices.
    """
    if mesh is None:
        return function
    mapped = jax.shard_map(
        function,
        mesh=auto(mesh),
        in_specs=in_specs,
        out_specs=out_specs,
        axis_names={TASKS, COORDINATES} & set(mesh.axis_names),
        check_vma=False,  # results that are averaged over the axis are the same everywhere
    )

    def run(*arguments: Any) -> Any:
        with outside_other_meshes(mesh):
            return jax.jit(mapped)(*arguments)

    return run


def mean_over_tasks(means: PyTree, mesh: Mesh | None) -> PyTree:
    """The mean of the devices' means, inside `over_tasks`."""
    return means if mesh is None else jax.lax.pmean(means, TASKS)


def gathered(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """`tree`, small and made under `jit` or not, with every array on all devices of `mesh`."""
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(auto(mesh), WHOLE))


class Parts(NamedTuple):
    """The number of devices that share the coordinates; its methods work inside `over_tasks`.

    Coordinates are the last axis of an array; where the devices cannot split it evenly, zeros are
    added to its end.
    """

    number: int = 1

    def size(self, width: int) -> int:
        """Coordinates of each part of `width`."""
        return -(-width // self.number)

    def own(self, whole: jax.Array) -> jax.Array:
        """`[..., n]` -> `[..., ceil(n / number)]`: this device's part."""
        if self.number == 1:
            return whole
        size = self.size(whole.shape[-1])
        short = self.number * size - whole.shape[-1]
        whole = jnp.pad(whole, [(0, 0)] * (whole.ndim - 1) + [(0, short)])
        first = jax.lax.axis_index(COORDINATES) * size
        return jax.lax.dynamic_slice_in_dim(whole, first, size, axis=-1)

    def gather(self, own: Any) -> jax.Array:
        """The inverse of `own`, with the zeros still at the end."""
        if self.number == 1:
            return own
        return jax.lax.all_gather(own, COORDINATES, axis=own.ndim - 1, tiled=True)

    def sum(self, tree: PyTree) -> PyTree:
        """The sum of what each device found for its part."""
        return tree if self.number == 1 else jax.lax.psum(tree, COORDINATES)

    def own_key(self, key: Key) -> Key:
        """Another random key on each device."""
        if self.number == 1:
            return key
        return jax.random.fold_in(key, jax.lax.axis_index(COORDINATES))


ONE_PART = Parts()


def coordinate_parts(mesh: Mesh | None) -> Parts:
    """The parts that the axis "coordinates" of `mesh` makes."""
    return ONE_PART if mesh is None else Parts(mesh.shape.get(COORDINATES, 1))


def any_process(flag: bool) -> bool:
    """Whether `flag` holds in any of the processes; all must ask at the same point."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def first_process_first(function: Callable[[], Any]) -> Any:
    """Calls `function` in the first process, and then in the others: for files that one makes."""
    if jax.process_count() == 1:
        return function()
    from jax.experimental import multihost_utils

    result = function() if jax.process_index() == 0 else None
    multihost_utils.sync_global_devices("first_process_first")
    return result if jax.process_index() == 0 else function()


def place_data(data: PyTree, mesh: Mesh | None, *, shard: bool) -> PyTree:
    """Task data on the devices of `mesh`: a copy on each, or a part of the leading axis."""
    if mesh is None:
        return data
    return _put(data, NamedSharding(auto(mesh), SPLIT if shard else WHOLE))


def replicate(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """`tree` with every array on all devices of `mesh`; unchanged without one."""
    return tree if mesh is None else _put(tree, NamedSharding(auto(mesh), WHOLE))


def _put(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """`tree` on devices that may be other processes'; each process gives the whole tree."""

    def put(leaf):
        if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
            return leaf
        if sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            put_data = put(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(put_data, impl=jax.random.key_impl(leaf))
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(put, tree)
