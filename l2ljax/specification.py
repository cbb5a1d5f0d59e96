"""Values from plain data, and plain data from values: names of parts, and their arguments.

A specification is a dict of JSON values: a `name`, and the arguments of the builder so called. The
name is one from a list of builders, or `"module:attribute"` or `"file.py:attribute"` of a user's
own. A builder decorated with `specified` gives each of its values the specification that rebuilds
it, so that configurations and weights files need not be told a second time.
"""

import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from l2ljax.checks import short, shorten
from l2ljax.names import NotPlainError, find, name_of

Builder = TypeVar("Builder", bound=Callable[..., Any])

MOST_KEPT = 256
"""Values that a specified builder keeps, to return the same one for the same arguments."""


class Specification(Mapping[str, Any]):
    """A dict of JSON values that hashes and compares by its content, so jit can take it as static.

    Example:
        >>> Specification({"name": "lstm", "hidden_sizes": (8,)}) == {
        ...     "name": "lstm", "hidden_sizes": [8]
        ... }
        True
    """

    def __init__(self, data: Mapping[str, Any]):
        self._text = json.dumps(dict(data), sort_keys=True, allow_nan=False)

    def __getitem__(self, key: str) -> Any:
        return json.loads(self._text)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(json.loads(self._text))

    def __len__(self) -> int:
        return len(json.loads(self._text))

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Specification):
            return self._text == other._text
        return isinstance(other, Mapping) and json.loads(self._text) == dict(other)

    def __repr__(self) -> str:
        return repr(json.loads(self._text))


def specified(name: str | None = None) -> Callable[[Builder], Builder]:
    """Decorates a builder of NamedTuples that have a field `specification`, which it fills in.

    Arguments may be JSON values, dtypes, values with a specification of their own, and functions
    that can be found by name; with any other the value has none (it works, but cannot be saved).
    Equal plain arguments give the very same value, so what JAX compiled for one serves the other.

    Args:
        name: in the list of builders; default: `"module:attribute"`, where the builder stands.

    Example:
        >>> import optax
        >>> from l2ljax.base import LearnedOptimizer
        >>> @specified("halves")
        ... def halves(factor: float = 0.5) -> LearnedOptimizer:
        ...     return LearnedOptimizer(lambda key: factor, lambda factor: optax.scale(-factor))
        >>> halves(0.25).specification
        {'factor': 0.25, 'name': 'halves'}
    """

    def decorate(builder: Builder) -> Builder:
        signature = inspect.signature(builder)
        kept: dict[Any, Any] = {}

        @functools.wraps(builder)
        def build(*args: Any, **kwargs: Any) -> Any:
            try:
                bound = signature.bind(*args, **kwargs)
                bound.apply_defaults()
                own, functions = name or name_of(build), []
                specification = Specification({"name": own, **as_plain(_by_name(bound), functions)})
            except (ValueError, TypeError):  # the builder itself tells what is wrong, if it is
                return builder(*args, **kwargs)
            key = (specification, *functions)
            if key not in kept:
                if len(kept) >= MOST_KEPT:
                    kept.pop(next(iter(kept)))
                kept[key] = builder(*args, **kwargs)._replace(specification=specification)
            return kept[key]

        return build  # pyright: ignore[reportReturnType]

    return decorate


def _by_name(bound: inspect.BoundArguments) -> dict[str, Any]:
    """Arguments by name, `**options` among the others."""
    arguments = dict(bound.arguments)
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= arguments.pop(name, {})
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            raise NotPlainError(f"positional arguments *{name} have no names")
    return arguments


def as_plain(value: Any, functions: list[Any] | None = None) -> Any:
    """`value` as JSON values; functions as `{"function": "module:attribute"}`.

    Args:
        value: JSON values, tuples, NumPy scalars, dtypes, values with a `specification`, functions
            that can be found by name, and dicts and lists of those.
        functions: the functions met are appended to it.

    Raises:
        NotPlainError: for anything else.

    Example:
        >>> as_plain({"rates": (1.0, np.float32(0.5)), "dtype": np.float32})
        {'rates': [1.0, 0.5], 'dtype': 'float32'}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(getattr(value, "specification", None), Mapping):
        return as_plain(dict(value.specification), functions)
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if isinstance(getattr(value, "dtype", None), np.dtype) and isinstance(value, Callable):
        return value.dtype.name  # jax.numpy's scalar types
    if isinstance(value, np.generic):
        return as_plain(value.item())
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: as_plain(inner, functions) for key, inner in value.items()}
    elif type(value) in (list, tuple):
        return [as_plain(inner, functions) for inner in value]
    elif callable(value):
        if functions is not None:
            functions.append(value)
        return {"function": name_of(value)}
    raise NotPlainError(f"{short(value)} is not plain data")


def call_with(
    builders: Mapping[str, Callable[..., Any]],
    specification: Mapping[str, Any],
    what: str,
    **extra: Any,
) -> Any:
    """Calls the builder that `specification["name"]` names with the other entries.

    Args:
        builders: name -> function.
        specification: `name` (in `builders`, or `"module:attribute"`), and arguments by name;
            `{"function": "module:attribute"}` among them is that function.
        what: what is being built, for the error sentences.
        **extra: further arguments.

    Raises:
        ValueError: for an unknown name or argument, or a missing one; lists those there are.

    Example:
        >>> call_with({"power": pow}, {"name": "power", "base": 2, "exp": 3}, "function")
        8
    """
    check_mapping(what, specification, example='{"name": ...}')
    arguments = {name: _with_functions(value) for name, value in specification.items()} | extra
    name = arguments.pop("name", None)
    builder = builders.get(name) if isinstance(name, str) else None
    if builder is None and isinstance(name, str) and ":" in name:
        builder = find(name)
    if builder is None:
        raise ValueError(
            f"Unknown {what} {short(name)}; there are {', '.join(sorted(builders))}, and "
            '"module:attribute" or "file.py:attribute" for one of your own.'
        )
    check_arguments(f"{what} {name!r}", builder, arguments)
    return builder(**arguments)


def _with_functions(value: Any) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {"function"} and isinstance(value["function"], str):
            return find(value["function"])
        return {key: _with_functions(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_functions(inner) for inner in value]
    return value


def check_arguments(what: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Refuses arguments that `function` does not take, and too few.

    Raises:
        ValueError: naming what is wrong, and the arguments there are.
    """
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        known = ", ".join(inspect.signature(function).parameters)
        reason = shorten(str(error), 200)
        raise ValueError(f"The {what}: {reason}; it takes {known}.") from error


def check_mapping(what: str, value: Any, *, example: str) -> None:
    """Refuses what is no dict with strings as keys.

    Raises:
        ValueError: naming `what`, with an example.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} must be a dict such as {example}, got {short(value)}.")
    for key in value:
        if not isinstance(key, str):
            raise ValueError(f"{what} must have strings as keys, got the key {short(key)}.")
