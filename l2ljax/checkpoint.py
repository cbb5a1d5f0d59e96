"""Orbax checkpoints of a whole run: every array it needs to go on, and its place in the history."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from l2ljax.base import PyTree
from l2ljax.checks import path_name

if TYPE_CHECKING:  # Orbax is slow to import: each function does it when called
    import orbax.checkpoint as ocp

FORMAT = 2  # raised when a checkpoint's content changes; others are refused


@contextlib.contextmanager
def open_checkpoints(directory: Path, *, keep: int = 2) -> "Iterator[ocp.CheckpointManager]":
    """An Orbax manager that writes asynchronously and atomically and keeps the newest `keep`.

    Leaving the context waits until the last checkpoint is on disk.
    """
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
    manager = ocp.CheckpointManager(
        Path(directory).absolute(),
        options=options,
        item_handlers={
            "state": ocp.StandardCheckpointHandler(),
            "extra": ocp.JsonCheckpointHandler(),
        },
    )
    try:
        yield manager
    finally:
        manager.close()


def save(manager: "ocp.CheckpointManager", step: int, state: PyTree, extra: dict[str, Any]) -> None:
    """Starts writing checkpoint `step`: the arrays of `state` and the JSON of `extra`."""
    import orbax.checkpoint as ocp

    if manager.latest_step() == step:
        return
    manager.save(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            extra=ocp.args.JsonSave({"format": FORMAT, **extra}),
        ),
    )


def restore(manager: "ocp.CheckpointManager", like: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
    """The newest checkpoint as `(state, extra)`, or `None` where there is none.

    Args:
        manager: from `open_checkpoints`.
        like: a state of the expected structure, shapes, dtypes and shardings.

    Raises:
        ValueError: if the checkpoint has another format, or holds another structure, naming the
            first leaf that differs.
    """
    import orbax.checkpoint as ocp

    step = manager.latest_step()
    if step is None:
        return None
    where = f"Checkpoint {step} in {manager.directory}"
    extra = manager.restore(step, args=ocp.args.Composite(extra=ocp.args.JsonRestore()))["extra"]
    if extra.get("format") != FORMAT:
        raise ValueError(
            f"{where} has format {extra.get('format')!r}, this version of l2ljax reads format "
            f"{FORMAT}; continue it with the version that wrote it, or start in a new directory."
        )
    saved = manager.item_metadata(step)["state"].tree
    _check_same_leaves(like, saved, where)
    state = manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(_abstract(like)))
    )["state"]
    return state, extra


def _abstract(like: PyTree) -> PyTree:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like
    )


def _check_same_leaves(like: PyTree, saved: PyTree, where: str) -> None:
    """Compares by leaf names: Orbax's own metadata knows dicts and lists, not our NamedTuples."""

    def stored_shape(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf).shape if is_key else leaf.shape

    wanted = {path_name(p): stored_shape(v) for p, v in jax.tree_util.tree_leaves_with_path(like)}
    found = {path_name(p): v.shape for p, v in jax.tree_util.tree_leaves_with_path(saved)}
    if wanted == found:
        return
    names = [n for n in {**wanted, **found} if wanted.get(n) != found.get(n)]
    raise ValueError(
        f"{where} does not fit this run: {names[0]} has shape {found.get(names[0], 'none')}, "
        f"expected {wanted.get(names[0], 'none')}; resume with the arguments that it was started "
        "with, or start in a new directory."
    )
