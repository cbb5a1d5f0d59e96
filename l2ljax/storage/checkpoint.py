"""Orbax checkpoints of a whole run: every array it needs to go on, and its place in the history.

Each has a seal: the SHA-256 of every array and of all that is said beside them, taken from the
state before it was written. What has been restored must match it, so damage to any file is either
noticed or without effect. Then the checkpoint before is taken, and the damaged one kept aside: the
updates since are made again to the same last bit, so nothing is lost but time.
"""

import contextlib
import itertools
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from l2ljax.base import PyTree
from l2ljax.checks import path_name
from l2ljax.parallel import any_process, first_process_first
from l2ljax.storage.orbax_errors import DamagedCheckpointError, quiet_orbax, reading, writing
from l2ljax.storage.seal import seal_json, seal_leaves, stored_like

if TYPE_CHECKING:  # Orbax is slow to import: each function does it when called
    import orbax.checkpoint as ocp

FORMAT = 2
"""Raised when a checkpoint's content changes; others are refused."""


@contextlib.contextmanager
def open_checkpoints(directory: Path, *, keep: int = 2) -> "Iterator[ocp.CheckpointManager]":
    """An Orbax manager that writes asynchronously and atomically and keeps the newest `keep`.

    Leaving the context waits until the last checkpoint is on disk.

    Raises:
        OSError: if the directory cannot be made, or a checkpoint not be written.
    """
    import orbax.checkpoint as ocp

    directory = Path(directory).absolute()
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
    handlers = {"state": ocp.StandardCheckpointHandler(), "extra": ocp.JsonCheckpointHandler()}
    with quiet_orbax():
        with writing(directory):
            manager = ocp.CheckpointManager(directory, options=options, item_handlers=handlers)
        try:
            yield manager
        finally:
            with writing(directory):
                manager.close()


def save(manager: "ocp.CheckpointManager", step: int, state: PyTree, extra: dict[str, Any]) -> None:
    """Starts writing checkpoint `step`: the arrays of `state` and the JSON of `extra`.

    Raises:
        OSError: if it, or the one before, cannot be written.
    """
    import orbax.checkpoint as ocp

    if manager.latest_step() == step:
        return
    content = {"format": FORMAT, "extra": extra, "leaves": seal_leaves(state)}
    with writing(Path(manager.directory)):
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                extra=ocp.args.JsonSave({**content, "seal": seal_json(content)}),
            ),
        )


def restore(manager: "ocp.CheckpointManager", like: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
    """The newest whole checkpoint as `(state, extra)`, or `None` where there is none.

    A damaged one is passed over with a warning, and moved to a folder `damaged` beside the
    manager's.

    Args:
        manager: from `open_checkpoints`.
        like: a state of the expected structure, shapes, dtypes and shardings.

    Raises:
        DamagedCheckpointError: if there are checkpoints, and all of them are damaged.
        ValueError: if the checkpoint has another format, or holds another structure, naming the
            first leaf that differs.
    """
    damaged: dict[int, DamagedCheckpointError] = {}
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            found, problem = _read(manager, step, like), None
        except DamagedCheckpointError as error:
            found, problem = None, error
        if any_process(problem is not None):
            damaged[step] = problem or DamagedCheckpointError(
                f"Another process finds checkpoint {step} in {manager.directory} damaged"
            )
            continue
        for bad, error in damaged.items():
            kept = _set_aside(manager, bad)
            warnings.warn(
                f"{error}; went on from checkpoint {step} instead, the updates since are made "
                f"again, and the damaged one is kept in {kept}.",
                stacklevel=3,
            )
        return found
    if damaged:
        raise DamagedCheckpointError(
            f"{next(iter(damaged.values()))}, and no other checkpoint there is whole; put a copy "
            f"in its place, or remove {manager.directory} to start over."
        )
    return None


def _read(
    manager: "ocp.CheckpointManager", step: int, like: PyTree
) -> tuple[PyTree, dict[str, Any]]:
    """Checkpoint `step`, held against its seal."""
    import orbax.checkpoint as ocp

    where = f"Checkpoint {step} in {manager.directory}"
    with reading(where, "extra/metadata"):
        content = manager.restore(step, args=ocp.args.Composite(extra=ocp.args.JsonRestore()))
        content = dict(content["extra"])
        seal = content.pop("seal", None)
    unsealed = seal is None and content.get("format") == 1  # as that format was
    if not unsealed and seal != seal_json(content):
        raise DamagedCheckpointError(f"{where} is damaged: extra/metadata does not match its seal")
    if content["format"] != FORMAT:
        raise ValueError(
            f"{where} has format {content['format']!r}, this version of l2ljax reads format "
            f"{FORMAT}; continue it with the version that wrote it, or start in a new directory."
        )
    _check_same_leaves(like, content["leaves"], where)
    with reading(where, "state"):
        state = manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(_abstract(like)))
        )["state"]
    for name, leaf in json.loads(json.dumps(seal_leaves(state))).items():
        if content["leaves"][name] != leaf:
            raise DamagedCheckpointError(
                f"{where} is damaged: the array {name} in its folder state is not what was saved"
            )
    return state, content["extra"]


def _abstract(like: PyTree) -> PyTree:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like
    )


def _check_same_leaves(like: PyTree, saved: Mapping[str, Any], where: str) -> None:
    def described(shape, dtype):
        return f"shape {tuple(shape)} and dtype {dtype}"

    wanted = {
        path_name(path): described(*stored_like(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(like)
    }
    found = {name: described(shape, dtype) for name, (shape, dtype, _) in saved.items()}
    for name in {**wanted, **found}:
        if wanted.get(name) != found.get(name):
            raise ValueError(
                f"{where} does not fit this run: {name} has {found.get(name, 'no array')}, "
                f"expected {wanted.get(name, 'none')}; resume with the arguments that it was "
                "started with, or start in a new directory."
            )


def _set_aside(manager: "ocp.CheckpointManager", step: int) -> Path:
    """Moves checkpoint `step` out of the manager's sight; returns where it is."""
    source = Path(manager.directory) / str(step)
    folder = source.parents[1] / "damaged"
    names = itertools.chain([str(step)], (f"{step}-{n}" for n in itertools.count(2)))
    target = next(folder / name for name in names if not (folder / name).exists())

    def move():
        if source.exists():
            folder.mkdir(exist_ok=True)
            source.rename(target)

    with writing(folder):
        first_process_first(move)
    manager.reload()
    return target
