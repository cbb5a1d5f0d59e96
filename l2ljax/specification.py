"""Plain data -> objects: a `name` from a list of builders, and the builder's arguments."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from l2ljax.checks import short, shorten


def call_with(
    builders: Mapping[str, Callable[..., Any]],
    specification: Mapping[str, Any],
    what: str,
    **extra: Any,
) -> Any:
    """Calls the builder that `specification["name"]` names with the other entries.

    Args:
        builders: name -> function.
        specification: `name`, and arguments by name.
        what: what is being built, for the error sentences.
        **extra: further arguments.

    Raises:
        ValueError: for an unknown name or argument, or a missing one; lists those there are.

    Example:
        >>> call_with({"power": pow}, {"name": "power", "base": 2, "exp": 3}, "function")
        8
    """
    check_mapping(what, specification, example='{"name": ...}')
    arguments = {**specification, **extra}
    name = arguments.pop("name", None)
    if not isinstance(name, str) or name not in builders:
        raise ValueError(f"Unknown {what} {short(name)}; there are {', '.join(sorted(builders))}.")
    builder = builders[name]
    check_arguments(f"{what} {name!r}", builder, arguments)
    return builder(**arguments)


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
