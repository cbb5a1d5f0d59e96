"""Plain data -> objects: a `name` from a list of builders, and the builder's arguments."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any


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
    arguments = {**specification, **extra}
    name = arguments.pop("name", None)
    if name not in builders:
        raise ValueError(f"Unknown {what} {name!r}; there are {', '.join(sorted(builders))}.")
    builder = builders[name]
    try:
        inspect.signature(builder).bind(**arguments)
    except TypeError as error:
        known = ", ".join(inspect.signature(builder).parameters)
        raise ValueError(f"The {what} {name!r}: {error}; it takes {known}.") from error
    return builder(**arguments)
