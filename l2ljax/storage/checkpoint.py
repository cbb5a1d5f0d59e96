"""Checkpoints of a whole run: every array it needs to go on, and its place in the history.

Each is one safetensors file, `STEP.safetensors`, that appears in one step when it is whole. Its
metadata hold what is said beside the arrays and a seal: the SHA-256 of every array and of all that
is said, so damage to the file is either noticed or without effect. Then the checkpoint before is
taken, and the damaged one kept aside: the updates since are made again to the same last bit, so
nothing is lost but time.
"""

import itertools
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from l2ljax.base import PyTree
from l2ljax.base.words import named_leaves
from l2ljax.checks import shorten
from l2ljax.parallel import any_process, first_process_first, is_key, on_host, placed_like
from l2ljax.storage.layout import FORMAT, read_file, write_file
from l2ljax.storage.orbax import read_orbax
from l2ljax.storage.seal import seal, seal_json
from l2ljax.storage.workdir import make_directory, telling


class DamagedCheckpointError(ValueError):
    """A checkpoint that cannot be read, or does not hold what was written.

    Example:
        >>> import tempfile
        >>> directory = Path(tempfile.mkdtemp())
        >>> _ = (directory / "7.safetensors").write_bytes(b"no checkpoint")
        >>> try:
        ...     load(directory)
        ... except DamagedCheckpointError as error:
        ...     print("Checkpoint 7" in str(error))
        True
    """


class Checkpoint(NamedTuple):
    """One that has been read.

    Attributes:
        step: its number, meta-updates made.
        path: its file.
        leaves: path in the state's tree, such as `"faults/streak"` -> array.
        extra: JSON values by name.

    Example:
        >>> found = Checkpoint(3, Path("3.safetensors"), {"w": np.zeros(2)}, {"seconds": 1.5})
        >>> found.leaves["w"].shape
        (2,)
    """

    step: int
    path: Path
    leaves: dict[str, np.ndarray]
    extra: dict[str, Any]


def steps(directory: Path) -> dict[int, Path]:
    """The checkpoints in a directory, the newest last.

    Args:
        directory: which need not be there.

    Returns:
        number -> path, damaged ones too, in ascending order.

    Example:
        >>> steps(Path("nowhere"))
        {}
    """
    found = {}
    for path in Path(directory).glob("[0-9]*"):
        name = path.name.removesuffix(".safetensors")
        if name.isdecimal() and path.is_dir() == (name == path.name):  # Orbax's are folders
            found[int(name)] = path
    return dict(sorted(found.items()))


def save(
    directory: Path,
    step: int,
    state: PyTree,
    extra: Mapping,
    *,
    keep: int = 2,
    replace: bool = False,
) -> None:
    """Writes checkpoint `step` and removes all but the newest `keep`.

    One array after the other goes through the host's memory. With several processes all must call;
    the first writes.

    Args:
        directory: made if it is not there.
        step: its number, meta-updates made.
        state: a tree of arrays and random keys.
        extra: JSON values by name.
        keep: checkpoints, at least 1.
        replace: one of that number that is there, which stays otherwise.

    Raises:
        OSError: if it cannot be written; those in the directory stay whole.

    Example:
        >>> import tempfile
        >>> directory = Path(tempfile.mkdtemp())
        >>> for step in (10, 20, 30):
        ...     save(directory, step, {"w": np.full(2, step)}, {"seconds": 1.5})
        >>> list(steps(directory))
        [20, 30]
    """
    directory, leaves, problem = Path(directory), named_leaves(state), None
    arrays = ((name, on_host(leaf)) for name, leaf in leaves.items())
    with telling(f"Checkpoints cannot be written to {directory}", "those in it are whole"):
        if jax.process_index() == 0 and (replace or step not in steps(directory)):
            try:
                make_directory(directory)
                with (directory / ".writing").open("wb") as file:  # a killed run's is overwritten
                    write_file(
                        file, arrays, {n: _stored(leaf) for n, leaf in leaves.items()}, extra
                    )
                before = steps(directory).get(step)
                os.replace(directory / ".writing", directory / f"{step}.safetensors")
                if before is not None and before.is_dir():  # of Orbax
                    shutil.rmtree(before)
                for old in list(steps(directory).values())[:-keep]:
                    shutil.rmtree(old) if old.is_dir() else old.unlink()
            except OSError as error:
                (directory / ".writing").unlink(missing_ok=True)
                problem = error
        for _ in arrays:  # what is left of it: the other processes' part
            pass
        if any_process(problem is not None):
            raise problem or OSError("in the first process")


def load(directory: Path, *, repair: bool = False) -> Checkpoint | None:
    """The newest whole checkpoint, or `None` where there is none.

    A damaged one is passed over with a warning; with `repair` it is moved to a folder `damaged`
    beside the directory.

    Args:
        directory: of `save`.
        repair: move damaged ones away.

    Returns:
        the checkpoint, its arrays on the host.

    Warns:
        UserWarning: for each damaged one that is passed over.

    Raises:
        DamagedCheckpointError: if there are checkpoints, and all of them are damaged.
        ValueError: if the checkpoint has another format.

    Example:
        >>> import tempfile
        >>> directory = Path(tempfile.mkdtemp())
        >>> load(directory) is None
        True
        >>> save(directory, 10, {"w": np.full(2, 7)}, {"seconds": 1.5})
        >>> found = load(directory)
        >>> found.step, found.leaves["w"].tolist(), found.extra
        (10, [7, 7], {'seconds': 1.5})
    """
    damaged: dict[Path, DamagedCheckpointError] = {}
    for step, path in reversed(steps(directory).items()):
        where, found = f"Checkpoint {step} in {directory}", None
        try:
            found = Checkpoint(step, path, *_read(path, where))
        except DamagedCheckpointError as error:
            damaged[path] = error
        if any_process(found is None):
            elsewhere = DamagedCheckpointError(f"{where} is damaged, as another process finds")
            damaged.setdefault(path, elsewhere)
            continue
        for bad, error in damaged.items():
            kept = f"the damaged one is kept in {_set_aside(bad)}" if repair else "it stays there"
            warnings.warn(
                f"{error}; went on from checkpoint {step} instead, the updates since are made "
                f"again, and {kept}.",
                stacklevel=3,
            )
        return found
    if damaged:
        raise DamagedCheckpointError(
            f"{next(iter(damaged.values()))}, and no other checkpoint there is whole; put a copy "
            f"in its place, or remove {directory} to start over."
        )
    return None


def place(found: Checkpoint, like: PyTree) -> PyTree:
    """The state of a checkpoint, with the structure and the shardings of `like`.

    Args:
        found: from `load`.
        like: a tree of arrays and random keys, such as the state of a run that begins.

    Returns:
        a tree like `like` with the checkpoint's numbers.

    Raises:
        ValueError: if it holds another structure, naming the first leaf that differs.

    Example:
        >>> found = Checkpoint(3, Path("3.safetensors"), {"w": np.full(2, 7.0, np.float32)}, {})
        >>> place(found, {"w": jax.numpy.zeros(2)})["w"].tolist()
        [7.0, 7.0]
    """

    def described(leaf):
        return f"shape {tuple(leaf.shape)} and dtype {leaf.dtype}"

    leaves = named_leaves(like)
    wanted = {name: described(_stored(leaf)) for name, leaf in leaves.items()}
    there = {name: described(array) for name, array in found.leaves.items()}
    for name in {**wanted, **there}:
        if wanted.get(name) != there.get(name):
            raise ValueError(
                f"Checkpoint {found.step} in {found.path.parent} does not fit this run: {name} has "
                f"{there.get(name, 'no array')}, expected {wanted.get(name, 'none')}; resume with "
                "the arguments that it was started with, or start in a new directory."
            )
    placed = [placed_like(found.leaves[name], leaf) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(like), placed)


def _stored(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of what is stored of an array, or of a random key."""
    return jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf


def _read(path: Path, where: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and the values beside them, held against their seal."""
    try:
        content, arrays = read_orbax(path) if path.is_dir() else read_file(path)
        sealed = content.pop("sha256", None)
        if sealed != seal_json(content) and (sealed, content.get("format")) != (None, 1):
            raise ValueError("what is said beside the arrays does not match its seal")
        if content["format"] in (FORMAT, 2):
            found = dict(arrays)
            for name, array in found.items():
                if content["leaves"][name] != json.loads(json.dumps(seal(array))):
                    raise ValueError(f"the array {name} is not what was saved")
            if missing := content["leaves"].keys() - found:
                raise ValueError(f"the array {min(missing)} is missing")
            return found, content["extra"]
    except (MemoryError, PermissionError, ImportError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:  # whatever is in it, it is of no use
        reason = shorten(f"{error}".splitlines()[0] if f"{error}" else type(error).__name__, 160)
        raise DamagedCheckpointError(f"{where} is damaged: {reason}") from error
    raise ValueError(
        f"{where} has format {content['format']!r}, this version of l2ljax reads formats 2 and "
        f"{FORMAT}; continue it with the version that wrote it, or start in a new directory."
    )


def _set_aside(path: Path) -> Path:
    """Moves a checkpoint to where it is not looked for; returns where it is."""
    target, again = path.parents[1] / "damaged" / path.name, itertools.count(2)
    while target.exists():
        target = target.with_name(f"{path.stem}-{next(again)}{path.suffix}")

    def move():
        if path.exists():
            make_directory(target.parent)
            path.rename(target)

    first_process_first(move)
    return target
