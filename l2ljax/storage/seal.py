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


def seal_leaves(tree: PyTree) -> dict[str, Leaf]:
    """Name -> `Leaf` for every array of `tree`, whatever devices and processes hold it.

    Args:
        tree: of arrays, random keys among them. With several processes all must call.

    Example:
        >>> leaf = seal_leaves({"w": jnp.zeros((2, 3))})["w"]
        >>> leaf.shape, leaf.dtype, leaf.sha256[:8]
        ((2, 3), 'float32', '9d908ecf')
    """
    return {
        path_name(path): _seal(_on_host(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


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
    leaves = {name: _seal(tensor) for name, tensor in tensors.items()}
    return seal_json([leaves, dict(texts)])


def stored_like(leaf: Any) -> tuple[tuple[int, ...], str]:
    """Shape and dtype that `seal_leaves` has for an array, or for a random key."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return tuple(leaf.shape), str(leaf.dtype)


def _seal(array: np.ndarray) -> Leaf:
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    return Leaf(array.shape, str(array.dtype), digest)


def _on_host(leaf: jax.Array) -> np.ndarray:
    """All of an array, also where other processes hold parts of it."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
