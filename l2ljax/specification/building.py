"""Values from plain data, and plain data from values: names of parts, and their arguments.

A specification is a dict of JSON values: a `name`, and the arguments of the builder so called. The
name is one from a list of builders, or `"module:attribute"` or `"file.py:attribute"` of a user's
own (`l2ljax.specification.names`). A builder decorated with `specified` gives each of its values
the specification that rebuilds it, so that configurations and weights files need not be told a
second time. It is also the way across processes: the functions in a learned optimizer or a task
cannot be pickled, as Optax's cannot; send `optimizer.specification` and build it.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax

from l2ljax.base.words import hint
from l2ljax.checks import short, shorten
from l2ljax.specification.names import NotPlainError, find, is_library_code, name_of_builder
from l2ljax.specification.plain import Specification, as_plain

Builder = TypeVar("Builder", bound=Callable[..., Any])
Encode = Callable[[Any, list[Any]], Any]

MOST_KEPT = 256
"""Values that a specified builder keeps, to return the same one for the same arguments."""


def specified(
    name: str | None = None, *, encode: Mapping[str, tuple[str, Encode]] | None = None
) -> Callable[[Builder], Builder]:
    """Decorates a builder of NamedTuples that have a field `specification`, which it fills in.

    Arguments may be JSON values, dtypes, values with a specification of their own, frozen
    dataclasses, and functions that can be found by name; with any other (an array, a lambda, a
    tracer) the value has none: it works, but cannot be saved. Equal arguments give the very
    same value, so what JAX compiled for one serves the other.

    Args:
        name: in the list of builders; default: `"module:attribute"`, where the builder stands.
            A builder inside a function, or in a notebook's cell, has no such name.
        encode: argument -> what it is called in the specification, and a function like `as_plain`
            for it.

    Returns:
        a decorator.

    Raises:
        TypeError: for a `name` that is no string, such as the builder itself.
        ValueError: for a builder with an argument called `name`.

    Example:
        >>> import optax
        >>> from l2ljax.base import LearnedOptimizer
        >>> @specified("halves")
        ... def halves(factor: float = 0.5) -> LearnedOptimizer:
        ...     return LearnedOptimizer(lambda key: factor, lambda factor: optax.scale(-factor))
        >>> halves(0.25).specification
        {'factor': 0.25, 'name': 'halves'}
    """
    if not (name is None or isinstance(name, str)):
        raise TypeError(f'Write @specified() or @specified("name"), got {short(name)} for a name.')

    def decorate(builder: Builder) -> Builder:
        signature = inspect.signature(builder)
        if "name" in signature.parameters:
            raise ValueError(
                f"{short(builder)} has an argument called name, which specifications use for the "
                "builder's own; call it otherwise."
            )
        kept: dict[Any, Any] = {}

        @functools.wraps(builder)
        def build(*args: Any, **kwargs: Any) -> Any:
            live: list[Any] = []
            try:
                bound = signature.bind(*args, **kwargs)
                bound.apply_defaults()
                plain = _plain_arguments(bound, encode or {}, live)
                own = name or name_of_builder(build)
                specification = Specification({"name": own, **plain})
                key = (specification, *live)
                hash(key)
            except (ValueError, TypeError, RecursionError):
                # The builder itself tells what is wrong, if it is.
                return builder(*args, **kwargs)
            if key not in kept:
                with jax.ensure_compile_time_eval():  # what is kept must hold no tracers
                    made = builder(*args, **kwargs)
                if len(kept) >= MOST_KEPT:
                    kept.pop(next(iter(kept)), None)
                kept[key] = specification.made_by(builder, made)
            return kept[key]

        return build  # pyright: ignore[reportReturnType]

    return decorate


def _plain_arguments(
    bound: inspect.BoundArguments, encode: Mapping[str, tuple[str, Encode]], live: list[Any]
) -> dict[str, Any]:
    """Arguments by name, `**options` among the others."""
    arguments = dict(bound.arguments)
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= arguments.pop(name, {})
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            raise NotPlainError(f"positional arguments *{name} have no names")
        elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            raise NotPlainError(f"the argument {name} cannot be given by name")
    plain = {}
    for name, value in arguments.items():
        called, make_plain = encode.get(name, (name, as_plain))
        plain[called] = make_plain(value, live)
    return plain


def find_builder(builders: Mapping[str, Callable[..., Any]], name: Any, what: str) -> Any:
    """The builder that `name` names: one of `builders`, or code of one's own.

    Raises:
        ValueError: if there is none, listing those there are; and for code of Python's own
            library, which a weights file of somebody else's must not be able to call.
    """
    if isinstance(name, str) and name in builders:
        return builders[name]
    if not isinstance(name, str) or ":" not in name:
        meant = hint(name, builders) if isinstance(name, str) else ""
        raise ValueError(
            f"Unknown {what} {short(name)}; there are {', '.join(sorted(builders))}, and "
            '"module:attribute" or "file.py:attribute" for one of your own'
            f"{meant}."
        )
    builder = find(name)
    if is_library_code(builder):
        raise ValueError(
            f"The {what} {short(name)} is no builder of one but {short(builder)}; name a function "
            "of your own."
        )
    return builder


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
            `{"function": "module:attribute"}` among them is that function, and a dict whose `name`
            is such a name is what that function returns for its other entries.
        what: what is being built, for the error sentences.
        **extra: further arguments.

    Raises:
        ValueError: for an unknown name or argument, or a missing one; lists those there are.

    Example:
        >>> call_with({"power": pow}, {"name": "power", "base": 2, "exp": 3}, "function")
        8
    """
    check_mapping(what, specification, example='{"name": ...}')
    arguments = {key: _with_own(value) for key, value in specification.items() if key != "name"}
    name = specification.get("name")
    builder = find_builder(builders, name, what)
    check_arguments(f"{what} {name!r}", builder, arguments | extra)
    return builder(**arguments | extra)


def _with_own(value: Any) -> Any:
    """`value` with the user's own functions, and what they build, in place of their names."""
    if isinstance(value, Mapping):
        if set(value) == {"function"} and isinstance(value["function"], str):
            return find(value["function"])
        if isinstance(name := value.get("name"), str) and ":" in name:
            return call_with({}, value, "part")
        return {key: _with_own(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_own(inner) for inner in value]
    return value


def check_arguments(what: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Refuses arguments that `function` does not take, and too few.

    Raises:
        ValueError: naming what is wrong, and the arguments there are.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The {what} is no function with named arguments.") from error
    try:
        signature.bind(**arguments)
    except TypeError as error:
        reason = shorten(str(error), 200)
        known = ", ".join(signature.parameters)
        raise ValueError(f"The {what}: {reason}; it takes {known or 'none'}.") from error


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
