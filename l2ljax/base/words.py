"""Values and leaves as a sentence names them."""

import difflib
import numbers
from collections.abc import Iterable
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


CLOSE = 0.75
"""How alike two names must be, of 1, for one to be taken for the other mistyped."""


def hint(name: Any, there: Iterable[str]) -> str:
    """What was probably meant by a name that is not there, for a sentence; or nothing.

    What is no string at all was meant to be something else.

    Example:
        >>> hint("lstm-mnits", ["lstm-mnist", "lstm-cifar10"])
        ' (did you mean lstm-mnist?)'
        >>> hint("adam", ["lstm-mnist"])
        ''
    """
    if not isinstance(name, str):
        return ""
    close = difflib.get_close_matches(name, list(there), n=1, cutoff=CLOSE)
    return f" (did you mean {close[0]}?)" if close else ""


def path_name(path: tuple) -> str:
    """A leaf's key path as a person writes it: `params/kernel_0`; the root is `(root)`."""
    return jax.tree_util.keystr(path, simple=True, separator="/") or "(root)"


def named_leaves(tree: Any) -> dict[str, Any]:
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


def dtype_of(leaf: Any) -> Any:
    """The dtype of an array or a number; `None` for anything else."""
    if hasattr(leaf, "dtype"):
        return leaf.dtype
    return jnp.result_type(leaf) if isinstance(leaf, numbers.Number) else None


def kind_of(leaf: Any) -> str:
    """What a leaf is, for a sentence."""
    dtype = dtype_of(leaf)
    return f"is {short(leaf, 40)}" if dtype is None else f"has dtype {dtype}"


MOST_LEAVES = 6
"""Leaves told one by one; of a larger tree how many they are, and their numbers in all."""


def shapes(tree: Any) -> str:
    """What a `repr` says of a tree.

    Example:
        >>> import numpy as np
        >>> shapes({"w": np.zeros((2, 3)), "b": np.zeros(3, np.float32), "rate": 0.5})
        '{b: float32[3], rate: 0.5, w: float64[2, 3]}'
        >>> shapes(())
        '()'
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    if not leaves:
        return "()"
    if len(leaves) > MOST_LEAVES:
        total = sum(getattr(leaf, "size", 1) for _, leaf in leaves)
        return f"{len(leaves)} arrays of {total:,} numbers"
    named = [
        (jax.tree_util.keystr(path, simple=True, separator="/"), _leaf(leaf))
        for path, leaf in leaves
    ]
    if len(named) == 1 and not named[0][0]:
        return named[0][1]
    return "{" + ", ".join(f"{name}: {what}" for name, what in named) + "}"


def _leaf(leaf: Any) -> str:
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return f"{leaf.dtype}[{', '.join(map(str, leaf.shape))}]"
    text = " ".join(repr(leaf).split())
    return text if len(text) <= 40 else f"a {type(leaf).__name__}"


def function_name(function: Any) -> str:
    """What a `repr` calls a function."""
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    return getattr(function, "__qualname__", type(function).__name__).replace("<locals>.", "")
