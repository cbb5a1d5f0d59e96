"""Arrays that others have published: read without unpickling, and checked by name and shape."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from l2ljax.checks import short

Arrays = dict[str, np.ndarray]
"""The authors' names, with dots between their parts -> float32 arrays."""


def read_arrays(path: Path) -> Mapping[str, Any]:
    """What a file holds: name -> array, or nested dicts of them.

    Raises:
        ValueError: for a file that is not what its name says.
        FileNotFoundError: if there is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; give the path of published weights.")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return load_file(path)
        from flax.serialization import msgpack_restore

        restored = msgpack_restore(path.read_bytes())
    except Exception as error:  # each reader has its own kinds of errors for bytes it cannot read
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}: {short(str(error))}); it must be a "
            ".npz without objects, a .safetensors, or flax's msgpack. Nothing is unpickled."
        ) from error
    if not isinstance(restored, Mapping):
        raise ValueError(f"{path} holds a {type(restored).__name__}, not a dict of arrays.")
    return restored


def flat_arrays(arrays: Mapping[str, Any], prefix: str = "") -> Arrays:
    """Nested dicts as one, names with dots, arrays as float32.

    Raises:
        ValueError: for a value that is no array of real numbers, naming it.
    """
    flat: Arrays = {}
    for key, value in arrays.items():
        name = f"{prefix}{key}".replace("/", ".")
        if isinstance(value, Mapping):
            flat |= flat_arrays(value, f"{name}.")
            continue
        array = np.asarray(value)
        is_number = jnp.issubdtype(array.dtype, jnp.number)  # bfloat16, too
        if not is_number or np.iscomplexobj(array):
            raise ValueError(f"{name} must be an array of real numbers, got {short(value)}.")
        flat[name] = array.astype(np.float32)
    return flat


def count_layers(arrays: Arrays, prefix: str, first: int) -> int:
    """How many layers have an array; at least one, so that a missing first one is named later."""
    number = 0
    while any(name.startswith(prefix.format(first + number)) for name in arrays):
        number += 1
    return max(1, number)


def length_of(arrays: Arrays, name: str, axis: int) -> int:
    """A length that the others follow from.

    Raises:
        ValueError: if the array is missing or has no such axis.
    """
    if name not in arrays:
        _refuse_missing(arrays, name)
    if axis >= arrays[name].ndim or arrays[name].shape[axis] == 0:
        raise ValueError(
            f"{name} of published weights must have at least {axis + 1} axes, none of length 0, "
            f"got the shape {arrays[name].shape}."
        )
    return arrays[name].shape[axis]


def check_arrays(
    kind: str, arrays: Arrays, expected: Mapping[str, Sequence[int]], unused: tuple[str, ...] = ()
) -> None:
    """Refuses arrays that are missing, misshapen, not finite or not known, naming the first.

    Args:
        kind: of published weights.
        arrays: by name.
        expected: name -> shape.
        unused: how the names of arrays begin that may be there and are not read.

    Raises:
        ValueError: as said.
    """
    for name, shape in expected.items():
        if name not in arrays:
            _refuse_missing(arrays, name)
        if arrays[name].shape != tuple(shape):
            raise ValueError(
                f"{name} of published {kind} weights must have the shape {tuple(shape)}, got "
                f"{arrays[name].shape}."
            )
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} of published {kind} weights has a value that is not finite.")
    for name in arrays:
        if name not in expected and not name.startswith(unused):
            raise ValueError(
                f"{name} is no array of published {kind} weights; there are "
                f"{short(', '.join(expected), 200)}."
            )


def _refuse_missing(arrays: Arrays, name: str) -> None:
    found = ", ".join(sorted(arrays)[:6]) or "no array at all"
    raise ValueError(f"The published weights lack the array {name} (there are {short(found)}).")
