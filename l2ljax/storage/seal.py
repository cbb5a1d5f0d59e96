"""SHA-256 of arrays and texts: how a file that was damaged after it was written is noticed.

A seal guards against bad disks and cut copies, not against forgery: who can change a file can also
seal it anew.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.base import PyTree
from l2ljax.checks import path_name


class Leaf(NamedTuple):
    """One array of a tree, as JSON holds it.

    Attributes:
        shape: of the array; of a random key, of its data.
        dtype: its name, e.g. "float32".
        sha256: hexadecimal, of the array's bytes in C order.
    """

    shape: tuple[int, ...]
    dtype: str
    sha256: str


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """Name -> leaf; a name that comes twice (`{"a/b": x, "a": {"b": y}}`) gets a prime.

    Example:
        >>> named_leaves({"w": {"a": 1, "b": 2}})
        {'w/a': 1, 'w/b': 2}
    """
    leaves: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = path_name(path)
        while name in leaves:
            name += "'"
        leaves[name] = leaf
    return leaves


def seal_json(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys.

    Example:
        >>> seal_json({"a": 1, "b": [2.5]}) == seal_json({"b": [2.5], "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def seal_tensors(tensors: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> str:
    """One SHA-256 of named arrays and the named texts beside them.

    Example:
        >>> weights, texts = {"w": np.float32([1.0])}, {"name": "lstm"}
        >>> seal_tensors(weights, texts) == seal_tensors({"w": np.float32([1.5])}, texts)
        False
    """
    return seal_json([{name: seal(tensor) for name, tensor in tensors.items()}, dict(texts)])


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


def on_host(leaf: Any) -> np.ndarray:
    """All of an array, or of a random key's data; with several processes all must ask for it."""
    if is_key(leaf):
        leaf = jax.random.key_data(leaf)
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed random keys."""
    return jnp.issubdtype(getattr(leaf, "dtype", np.dtype(bool)), jax.dtypes.prng_key)
