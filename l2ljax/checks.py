"""Errors at the door: what several modules refuse, each in one sentence."""

import math
import numbers
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from l2ljax.base import LearnedOptimizer, PyTree, Task
from l2ljax.base.words import dtype_of, kind_of, path_name, short
from l2ljax.base.words import shorten as shorten  # as `short`, where it is looked for

LARGEST_INT = 2**31 - 1
"""Counters on a device are int32."""

NONE_INSTEAD = (
    "differentiate and optimize a tree with None in its place, such as the first of "
    "equinox.partition(params, equinox.is_inexact_array)"
)
"""What to do with a leaf that has no derivative: gradients of integers are of no use to Optax."""

MOST_LAYERS = 64
"""Of any network: each is traced and compiled by itself."""


def check_positive_int(
    name: str, value: Any, *, minimum: int = 1, maximum: int = LARGEST_INT
) -> int:
    """`value` as an int from `minimum` to `maximum`; bools, floats, arrays, tracers are refused.

    An array of one integer would do here, but counts become part of what is compiled: those are
    compared and hashed, which arrays cannot be.

    Raises:
        ValueError: naming the argument, what was given and what was expected.

    Example:
        >>> check_positive_int("num_tasks", 3)
        3
        >>> check_positive_int("num_tasks", 2**40)
        Traceback (most recent call last):
        ValueError: num_tasks must be an integer of at most 2147483647, got 1099511627776.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name} must be an integer of at least {minimum}, got {short(value)}.")
    number = int(value)
    if number < minimum:
        raise ValueError(f"{name} must be an integer of at least {minimum}, got {short(value)}.")
    if number > maximum:
        raise ValueError(f"{name} must be an integer of at most {maximum}, got {short(value)}.")
    return number


def check_sizes(name: str, value: Any) -> tuple[int, ...]:
    """`value` as positive ints, one a layer; a string or a lone number is refused.

    Raises:
        ValueError: naming the argument, what was given and what was expected.

    Example:
        >>> check_sizes("hidden_sizes", [20, 20])
        (20, 20)
    """
    fits = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if fits and len(value) > MOST_LAYERS:
        raise ValueError(f"{name} must have at most {MOST_LAYERS} layers, got {len(value)}.")
    try:
        if fits:
            return tuple(check_positive_int(name, size) for size in value)
    except ValueError:
        pass
    raise ValueError(
        f"{name} must be positive integers, one a layer, such as (20, 20), got {short(value)}."
    )


def check_number(name: str, value: Any, *, above: float = -math.inf, what: str = "") -> None:
    """Refuses what is no finite real number greater than `above`.

    Arrays pass, if they are real scalars; the value of traced ones (`optax.inject_hyperparams`) is
    not known.

    Args:
        name: of the argument.
        value: what was given.
        above: the largest number that is too small.
        what: what is expected; default: made from `above`.

    Raises:
        ValueError: naming the argument, what was given and what was expected.
    """
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value[()]
    if isinstance(value, jax.Array):
        fits = value.shape == () and not jnp.issubdtype(value.dtype, jnp.complexfloating)
        if fits and not isinstance(value, Tracer):
            fits = is_number(float(value)) and float(value) > above
    else:
        fits = is_number(value) and value > above
    if not fits:
        expected = what or "a finite number" + (f" above {above:g}" if above > -math.inf else "")
        raise ValueError(f"{name} must be {expected}, got {short(value)}.")


def is_number(value: Any) -> bool:
    """Whether `value` is a finite real number that float32 can hold; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        value = float(value)
    except OverflowError:
        return False
    return abs(value) <= float(jnp.finfo(jnp.float32).max)


def check_kind(name: str, value: Any, *kinds: type) -> None:
    """Refuses what is of none of the classes `kinds`.

    Raises:
        TypeError: with what was given.
    """
    if not isinstance(value, kinds):
        expected = " or ".join("None" if k is type(None) else k.__name__ for k in kinds)
        raise TypeError(f"{name} must be a {expected}, got {short(value)}.")


def check_task(value: Any) -> None:
    """Refuses what is no `Task`, and one whose data are not all arrays.

    Raises:
        TypeError: with what was given.
    """
    if not isinstance(value, Task):
        raise TypeError(
            f"task must be an l2ljax.Task, such as l2ljax.tasks.quadratic(), got {short(value)}."
        )
    leaves = jax.tree_util.tree_leaves_with_path(value.data, lambda n: hasattr(n, "__next__"))
    for path, leaf in leaves:
        dtype = dtype_of(leaf)
        if dtype is None or getattr(dtype, "kind", "f") in "OSUMm":
            raise TypeError(
                f"task.data must hold arrays of numbers alone, got {short(leaf)} at "
                f"{path_name(path)}; let batch call a loader by jax.pure_callback instead."
            )


def check_optimizer(name: str, value: Any) -> None:
    """Refuses what is no `LearnedOptimizer`.

    Raises:
        TypeError: with what was given.
    """
    if not isinstance(value, LearnedOptimizer):
        raise TypeError(
            f"{name} must be an l2ljax.LearnedOptimizer, such as l2ljax.lstm(), got {short(value)}."
        )


def check_transform(name: str, value: Any) -> None:
    """Refuses what is no Optax transformation; a learned optimizer becomes one.

    Raises:
        TypeError: with what was given.
    """
    if not (callable(getattr(value, "init", None)) and callable(getattr(value, "update", None))):
        raise TypeError(
            f"{name} must be an Optax transformation, such as optax.adam(0.1) or "
            f"optimizer.transform(meta_params), got {short(value)}."
        )


def check_key(name: str, value: Any) -> None:
    """Refuses what is no single random key, typed or of the old kind (a vector of uint32).

    Raises:
        TypeError: with what was given.
    """
    fits = False
    if hasattr(value, "dtype") and hasattr(value, "ndim"):
        typed = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        fits = value.shape == () if typed else (value.dtype, value.ndim) == (jnp.uint32, 1)
    if not fits:
        raise TypeError(
            f"{name} must be a random key such as jax.random.key(0), got {short(value)}."
        )


def check_path(name: str, value: Any) -> None:
    """Refuses what is no path, or cannot be one.

    Raises:
        TypeError: with what was given.
    """
    if not isinstance(value, str | os.PathLike) or "\0" in os.fspath(value):
        raise TypeError(f"{name} must be a path, got {short(value)}.")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuses what is not one of the names in `choices`.

    Raises:
        ValueError: listing them.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {list(choices)}, got {short(value)}.")


def check_float_dtype(name: str, value: Any) -> None:
    """Refuses what is no real floating dtype, nor the name of one.

    Raises:
        ValueError: naming the argument and what was given.
    """
    try:
        fits = jnp.issubdtype(jnp.dtype(value), jnp.floating)
    except (TypeError, ValueError):
        fits = False
    if value is None or not fits:
        raise ValueError(
            f'{name} must be a real floating dtype such as "float32", got {short(value)}.'
        )


def check_real_floating(tree: PyTree, what: str) -> None:
    """Refuses a tree with a leaf that is not of a real floating dtype.

    Raises:
        TypeError: naming the leaf, what it is and what helps.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        dtype = dtype_of(leaf)
        if dtype is not None and jnp.issubdtype(dtype, jnp.floating):
            continue
        remedy = (
            "wrap the transform in optax.contrib.split_real_and_imaginary"
            if dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating)
            else NONE_INSTEAD
        )
        raise TypeError(
            f"A learned optimizer works on real floating-point leaves, but the {what} "
            f"{path_name(path)} {kind_of(leaf)}; {remedy}."
        )


def assert_shapes(name: str, array: Any, *shape: int | None) -> None:
    """Asserts an array's shape while a program is traced; `None` stands for any length.

    For what cannot be wrong unless this library is: what users give is refused in a sentence.

    Raises:
        AssertionError: naming the array.
    """
    import chex  # a tenth of a second, which tracing has and `import l2ljax` has not

    chex.assert_shape(array, shape, custom_message=name)


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
