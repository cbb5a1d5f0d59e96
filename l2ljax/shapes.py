"""Trees of arrays on one line: their shapes and dtypes, never their numbers."""

from typing import Any

import jax

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
