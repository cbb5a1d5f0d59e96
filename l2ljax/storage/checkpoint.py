"""Checkpoints of a whole run: every array it needs to go on, and its place in the history.

Each is one safetensors file, `STEP.safetensors`, that appears in one step when it is whole. Its
metadata hold what is said beside the arrays and a seal: the SHA-256 of every array and of all that
is said, so damage to the file is either noticed or without effect. Then the checkpoint before is
taken, and the damaged one kept aside: the updates since are made again to the same last bit, so
nothing is lost but time.
"""

import itertools
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.base import PyTree
from l2ljax.checks import shorten
from l2ljax.parallel import any_process, first_process_first
from l2ljax.storage.orbax import read_orbax
from l2ljax.storage.seal import is_key, named_leaves, on_host, raw, seal, seal_json
from l2ljax.storage.workdir import cannot_write, make_directory

FORMAT = 3
"""Raised when a checkpoint's content changes. 2, of Orbax, is read where Orbax is installed."""

DTYPES = {"bool": "BOOL", "bfloat16": "BF16"} | {
    f"{name}{bits}": f"{letter}{bits}"
    for name, letter in {"float": "F", "int": "I", "uint": "U"}.items()
    for bits in (8, 16, 32, 64)
    if name != "float" or bits > 8
}
"""Names that safetensors has for dtypes; arrays of others are stored as bytes."""


class DamagedCheckpointError(ValueError):
    """A checkpoint that cannot be read, or does not hold what was written."""


class Checkpoint(NamedTuple):
    """One that has been read: its arrays by name, and the JSON values beside them."""

    step: int
    path: Path
    leaves: dict[str, np.ndarray]
    extra: dict[str, Any]


def steps(directory: Path) -> dict[int, Path]:
    """The checkpoints in a directory, the newest last."""
    found = {}
    for path in Path(directory).glob("[0-9]*"):
        name = path.name.removesuffix(".safetensors")
        if name.isdecimal() and path.is_dir() == (name == path.name):  # Orbax's are folders
            found[int(name)] = path
    return dict(sorted(found.items()))


def save(
    directory: Path, step: int, state: PyTree, extra: Mapping[str, Any], *, keep: int = 2
) -> None:
    """Writes checkpoint `step` and removes all but the newest `keep`.

    One array after the other goes through the host's memory. With several processes all must call;
    the first writes.

    Raises:
        OSError: if it cannot be written; those in the directory stay whole.
    """
    directory, problem = Path(directory), None
    arrays = ((name, on_host(leaf)) for name, leaf in named_leaves(state).items())
    shapes = {name: _stored(leaf) for name, leaf in named_leaves(state).items()}
    if jax.process_index() == 0 and step not in steps(directory):
        try:
            make_directory(directory)
            with (directory / ".writing").open("wb") as file:  # a killed run's is overwritten
                _write(file, arrays, shapes, extra)
            os.replace(directory / ".writing", directory / f"{step}.safetensors")
            for old in list(steps(directory).values())[:-keep]:
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        except OSError as error:
            (directory / ".writing").unlink(missing_ok=True)
            problem = error
    for _ in arrays:  # what is left of it: the other processes' part
        pass
    if any_process(problem is not None):
        problem = problem or OSError("in the first process")
        raise cannot_write(
            f"Checkpoints cannot be written to {directory}", problem, "those in it are whole"
        ) from problem


def load(directory: Path, *, repair: bool = False) -> Checkpoint | None:
    """The newest whole checkpoint, or `None` where there is none.

    A damaged one is passed over with a warning.

    Args:
        directory: of the checkpoints.
        repair: whether to move damaged ones to a folder `damaged` beside it.

    Raises:
        DamagedCheckpointError: if there are checkpoints, and all of them are damaged.
        ValueError: if the checkpoint has another format.
    """
    damaged: dict[Path, DamagedCheckpointError] = {}
    for step, path in reversed(steps(directory).items()):
        where, found, problem = f"Checkpoint {step} in {directory}", None, None
        try:
            found = Checkpoint(step, path, *_read(path, where))
        except DamagedCheckpointError as error:
            problem = error
        if any_process(problem is not None):
            damaged[path] = problem or DamagedCheckpointError(
                f"{where} is damaged, as another process finds"
            )
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

    Raises:
        ValueError: if it holds another structure, naming the first leaf that differs.
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
    return jax.tree.unflatten(
        jax.tree.structure(like),
        [_put(found.leaves[name], leaf) for name, leaf in leaves.items()],
    )


def _stored(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of what is stored of an array, or of a random key."""
    return jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf


def _put(array: np.ndarray, like: Any) -> jax.Array:
    def put(array):
        sharding = like.sharding
        if sharding is None or sharding.is_fully_addressable:
            return jax.device_put(array, sharding, may_alias=False)  # states are donated
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    if not is_key(like):
        return put(array)
    impl = jax.random.key_impl(like)
    if like.sharding is None or like.sharding.is_fully_addressable:
        return put(jax.random.wrap_key_data(jnp.asarray(array), impl=impl))
    return jax.random.wrap_key_data(put(array), impl=impl)


def _write(
    file: BinaryIO,
    arrays: Iterable[tuple[str, np.ndarray]],
    shapes: Mapping[str, Any],
    extra: Mapping[str, Any],
) -> None:
    """Header and arrays; the header once more, as long, when all checksums are known."""
    unknown = {name: (list(leaf.shape), str(leaf.dtype), "0" * 64) for name, leaf in shapes.items()}
    file.write(_header(unknown, extra))
    sealed = {}
    for name, array in arrays:
        sealed[name] = seal(array)
        file.write(raw(array).data)
    file.seek(0)
    file.write(_header(sealed, extra))


def _header(leaves: Mapping[str, Any], extra: Mapping[str, Any]) -> bytes:
    content = {"format": FORMAT, "extra": dict(extra), "leaves": leaves}
    header: dict[str, Any] = {
        "__metadata__": {"content": json.dumps(content), "sha256": seal_json(content)}
    }
    end = 0
    for name, (shape, dtype, _) in leaves.items():
        begin, end = end, end + math.prod(shape) * jnp.dtype(dtype).itemsize
        known = dtype in DTYPES
        header[name] = {
            "dtype": DTYPES.get(dtype, "U8"),
            "shape": list(shape) if known else [end - begin],
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _read(path: Path, where: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and the values beside them, held against their seal."""
    try:
        content, arrays = read_orbax(path) if path.is_dir() else _read_file(path)
        sealed = content.pop("sha256", None)
        unsealed = sealed is None and content.get("format") == 1  # as that format was
        if not unsealed and sealed != seal_json(content):
            raise ValueError("what is said beside the arrays does not match its seal")
        if content["format"] in (FORMAT, 2):
            found = {}
            for name, array in arrays:
                found[name] = array
                if list(content["leaves"][name]) != json.loads(json.dumps(seal(array))):
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


def _read_file(path: Path) -> tuple[dict[str, Any], Iterable[tuple[str, np.ndarray]]]:
    """What is said, and the arrays one after the other, by the order in which it names them."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > path.stat().st_size:
            raise ValueError("its header is cut off")
        header = json.loads(file.read(size))["__metadata__"]
    content = json.loads(header["content"])

    def arrays():
        with path.open("rb") as file:
            file.seek(8 + size)
            for name, (shape, dtype, _) in content["leaves"].items():
                dtype = jnp.dtype(dtype)
                data = file.read(math.prod(shape) * dtype.itemsize)
                yield name, np.frombuffer(data, dtype).reshape(shape)

    return {**content, "sha256": header["sha256"]}, arrays()


def _set_aside(path: Path) -> Path:
    """Moves a checkpoint to where it is not looked for; returns where it is."""
    folder = path.parents[1] / "damaged"
    stem, suffix = path.name.removesuffix(path.suffix), path.suffix
    names = itertools.chain([path.name], (f"{stem}-{n}{suffix}" for n in itertools.count(2)))
    target = next(folder / name for name in names if not (folder / name).exists())

    def move():
        if path.exists():
            make_directory(folder)
            path.rename(target)

    first_process_first(move)
    return target
