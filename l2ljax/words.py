"""Values and leaves as a sentence names them."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp


def short(value: Any, length: int = 80) -> str:
    """`repr(value)` for a sentence: on one line, cut where it gets long.

    Example:
        >>> short("x" * 200, length=10)
        "'xxxxxx..."
    """
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # an integer of thousands of digits has no repr
        text = f"a {type(value).__name__}"
    return shorten(text, length)


def shorten(text: str, length: int) -> str:
    """`text`, cut where it gets longer than `length`."""
    return text if len(text) <= length else text[: length - 3] + "..."


def path_name(path: tuple) -> str:
    """A leaf's key path as a person writes it: `params/kernel_0`; the root is `(root)`."""
    return jax.tree_util.keystr(path, simple=True, separator="/") or "(root)"


def dtype_of(leaf: Any) -> Any:
    """The dtype of an array or a number; `None` for anything else."""
    if hasattr(leaf, "dtype"):
        return leaf.dtype
    return jnp.result_type(leaf) if isinstance(leaf, numbers.Number) else None


def kind_of(leaf: Any) -> str:
    """What a leaf is, for a sentence."""
    dtype = dtype_of(leaf)
    return f"is {short(leaf, 40)}" if dtype is None else f"has dtype {dtype}"
