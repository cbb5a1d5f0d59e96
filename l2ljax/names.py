"""Names that find code, a user's own too: `"module:attribute"` and `"file.py:attribute"`."""

import hashlib
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from l2ljax.checks import short, shorten

_OWN = "l2ljax_own_file_"
"""What the modules that were loaded from a file by its path are called."""


class NotPlainError(ValueError):
    """A value that plain data cannot name."""


def name_of(function: Any) -> str:
    """`"module:attribute"` of a function, or `"file.py:attribute"` where it is in no module.

    Raises:
        NotPlainError: for one that cannot be found by such a name, such as a lambda.

    Example:
        >>> import json
        >>> name_of(json.dumps)
        'json:dumps'
    """
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    attribute = getattr(function, "__qualname__", "<none>")
    if module is None or "<" in attribute:
        raise NotPlainError(f"{short(function)} has no name that finds it")
    if module.__name__ != "__main__" and not module.__name__.startswith(_OWN):
        return f"{module.__name__}:{attribute}"
    file = getattr(module, "__file__", None)
    if file is None:
        raise NotPlainError(f"{attribute} was defined in no file")
    path = Path(file).resolve()
    inside = path.is_relative_to(Path.cwd())
    return f"{os.path.relpath(path) if inside else path}:{attribute}"


def find(name: str) -> Any:
    """What `"module:attribute"` or `"file.py:attribute"` names; runs that module's code.

    Raises:
        ValueError: if there is no such module, file or attribute.

    Example:
        >>> find("math:sqrt")(9)
        3.0
    """
    place, _, attribute = name.rpartition(":")
    try:
        found: Any = _module_of_file(place) if place.endswith(".py") else _module(place)
    except (ImportError, FileNotFoundError, ValueError) as error:
        reason = shorten(f"{error}", 200)
        raise ValueError(
            f"{short(name)} names code of your own that is not at hand ({reason}); put its module "
            "on Python's path, or its file where the name says."
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{short(name)}: {place} has no attribute {short(attribute)}.")
        found = getattr(found, part)
    return found


def _module(name: str) -> Any:
    return importlib.import_module(name)


def _module_of_file(place: str) -> Any:
    path = Path(place).expanduser().resolve()
    main = sys.modules["__main__"]
    if getattr(main, "__file__", None) and Path(str(main.__file__)).resolve() == path:
        return main
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    name = _OWN + hashlib.sha256(str(path).encode()).hexdigest()[:16]
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
