"""SHA-256 of arrays and texts: how a file that was damaged after it was written is noticed.

A seal guards against bad disks and cut copies, not against forgery: who can change a file can also
seal it anew.
"""

import hashlib
import json
from typing import Any, NamedTuple

import numpy as np


class Leaf(NamedTuple):
    """Of an array, or of a random key's data: as JSON holds it; the SHA-256 is of its C order."""

    shape: tuple[int, ...]
    dtype: str
    sha256: str


def seal_json(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys.

    Example:
        >>> seal_json({"a": 1, "b": [2.5]}) == seal_json({"b": [2.5], "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def seal(array: np.ndarray) -> Leaf:
    """Shape, dtype and checksum of an array on the host.

    Example:
        >>> shape, dtype, sha256 = seal(np.zeros((2, 3), np.float32))
        >>> shape, dtype, sha256[:8]
        ((2, 3), 'float32', '9d908ecf')
    """
    digest = hashlib.sha256(raw(array).data).hexdigest()
    return Leaf(tuple(array.shape), str(array.dtype), digest)


def raw(array: np.ndarray) -> np.ndarray:
    """The bytes of an array in C order, without a copy where it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
