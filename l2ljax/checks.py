"""Errors at the door: what several modules refuse, each in one sentence."""

from typing import Any

import jax
import jax.numpy as jnp

from l2ljax.base import PyTree


def path_name(path: tuple) -> str:
    """A leaf's key path as a person writes it: `params/kernel_0`; the root is `(root)`."""
    return jax.tree_util.keystr(path, simple=True, separator="/") or "(root)"


def check_positive_int(name: str, value: Any, *, minimum: int = 1) -> int:
    """`value` as an int of at least `minimum`; bools, floats and tracers are refused.

    Raises:
        ValueError: naming the argument, what was given and what was expected.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < minimum:
        raise ValueError(f"{name} must be an integer of at least {minimum}, got {value!r}.")
    return value.__index__()


def check_real_floating(tree: PyTree, what: str) -> None:
    """Refuses a tree with a leaf that is not of a real floating dtype.

    Raises:
        TypeError: naming the leaf, its dtype and the wrapper that helps.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        dtype = jnp.result_type(leaf) if not hasattr(leaf, "dtype") else leaf.dtype
        if jnp.issubdtype(dtype, jnp.floating):
            continue
        remedy = (
            "wrap the transform in optax.contrib.split_real_and_imaginary"
            if jnp.issubdtype(dtype, jnp.complexfloating)
            else "leave it out with optax.masked or optax.partition"
        )
        raise TypeError(
            f"A learned optimizer works on real floating-point leaves, but the {what} "
            f"{path_name(path)} has dtype {dtype}; {remedy}."
        )


def check_like(expected: PyTree, given: PyTree, what: str, remedy: str) -> None:
    """Refuses a tree whose structure or leaf shapes differ from `expected`.

    Args:
        expected: arrays or `jax.ShapeDtypeStruct`s.
        given: the tree to check.
        what: its name in the sentence, e.g. "meta_params".
        remedy: how the sentence ends: what to do.

    Raises:
        ValueError: naming the first leaf that differs.
    """
    want = {path_name(p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(expected)}
    have = {path_name(p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(given)}
    for name, leaf in want.items():
        if name not in have:
            found = ", ".join(sorted(have)[:6]) or "no leaf at all"
            raise ValueError(f"{what} lacks the leaf {name} (it has {found}); {remedy}.")
        if jnp.shape(have[name]) != jnp.shape(leaf):
            raise ValueError(
                f"{what} has shape {jnp.shape(have[name])} at {name}, "
                f"expected {jnp.shape(leaf)}; {remedy}."
            )
    for name in have:
        if name not in want:
            raise ValueError(f"{what} has a leaf {name} that is not expected there; {remedy}.")
    if jax.tree.structure(expected) != jax.tree.structure(given):
        raise ValueError(
            f"{what} has the structure {jax.tree.structure(given)}, "
            f"expected {jax.tree.structure(expected)}; {remedy}."
        )
