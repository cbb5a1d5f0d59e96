"""Names that find code, a user's own too: `"module:attribute"` and `"file.py:attribute"`.

A file's name counts from the directory where Python was started, unless it is absolute. Finding a
name runs the code of its module or file, once a process; a file that is the running script is not
run again. What a file does beyond definitions belongs behind `if __name__ == "__main__":`.
"""

import functools
import hashlib
import importlib
import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any

from l2ljax.checks import short, shorten

_OWN = "l2ljax_own_file_"
"""What the modules that were loaded from a file by its path are called."""

_MAIN = ("__main__", "__mp_main__")
"""What the running script is called; the second in processes that `multiprocessing` spawned."""


class NotPlainError(ValueError):
    """A value that plain data cannot name."""


def name_of(function: Any) -> str:
    """`"module:attribute"` of a function or class, or `"file.py:attribute"` where it is in none.

    The name finds this very object: one that has been redefined or wrapped since has none. Of the
    packages that offer the object, the outermost is named.

    Raises:
        NotPlainError: for one that no name finds: a lambda, a function inside a function, a method
            of an object, what a notebook's cell defines.

    Example:
        >>> import json
        >>> name_of(json.dumps)
        'json:dumps'
    """
    place, attribute = getattr(function, "__module__", None), _attribute(function)
    module = sys.modules.get(place) if isinstance(place, str) else None
    if module is None or attribute is None or _inside(module, attribute) is not function:
        raise NotPlainError(f"{short(function)} has no name that finds it")
    return _named(module, attribute, function)


def name_of_builder(builder: Any) -> str:
    """As `name_of`, also where what the name finds is `builder` in a further decorator.

    Raises:
        NotPlainError: as `name_of`.
    """
    attribute = _attribute(builder)
    module = sys.modules.get(getattr(builder, "__module__", None) or "")
    found = None if module is None or attribute is None else _inside(module, attribute)
    if module is None or attribute is None or _inmost(found) is not _inmost(builder):
        raise NotPlainError(f"{short(builder)} has no name that finds it")
    return _named(module, attribute, found)


def name_in_file(function: Any) -> str:
    """`"file.py:attribute"` of a function whose module no name finds, as a configuration's file.

    Raises:
        NotPlainError: as `name_of`, and where the file has another such function by now.
    """
    code, attribute = getattr(_inmost(function), "__code__", None), _attribute(function)
    if attribute is None or code is None or not Path(code.co_filename).is_file():
        raise NotPlainError(f"{short(function)} has no name that finds it")
    name = f"{_place(Path(code.co_filename))}:{attribute}"
    if getattr(_inmost(find(name)), "__code__", None) != code:
        raise NotPlainError(f"{short(function)} is not what {name} finds")
    return name


def find(name: str) -> Any:
    """What `"module:attribute"` or `"file.py:attribute"` names; runs that module's code.

    Raises:
        ValueError: if there is no such module, file or attribute, or its code fails.

    Example:
        >>> find("math:sqrt")(9)
        3.0
    """
    place, _, attribute = name.rpartition(":")
    if not (place and attribute):
        raise ValueError(
            f'{short(name)} is no name of code; give "module:attribute" or "file.py:attribute".'
        )
    found = module_at(place, name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{short(name)}: {place} has no attribute {short(attribute)}.")
        found = getattr(found, part)
    return found


def module_at(place: str, name: str) -> Any:
    """The module called `place`, or of the file `place` where that ends in `.py`; runs its code.

    Args:
        place: the module or file.
        name: what sentences call it.

    Raises:
        ValueError: if there is none, or its code fails.

    Example:
        >>> module_at("math", "math").__name__
        'math'
    """
    try:
        return _module_of_file(place) if place.endswith(".py") else _module(place)
    except Exception as error:  # whatever the user's own code raises
        if _is_missing(place, error):
            raise ValueError(
                f"{short(name)} names code of your own that is not at hand ({_reason(error)}); put "
                f"its module on Python's path, or its file where the name says (from {Path.cwd()})."
            ) from error
        raise ValueError(
            f"{short(name)}: running the code of {place} failed ({_reason(error)}); mend it there."
        ) from error


def is_library_code(function: Any) -> bool:
    """Whether `function` is none, or Python itself brings it: no part of an experiment is there."""
    while isinstance(function, functools.partial):
        function = function.func
    top = (getattr(function, "__module__", None) or "builtins").partition(".")[0]
    # the running script is in no library, though Python lists its name among them
    return not callable(function) or (top in sys.stdlib_module_names and top not in _MAIN)


def _is_missing(place: str, error: Exception) -> bool:
    """Whether `place` is not there itself, and not what its code looks for."""
    if place.endswith(".py"):
        return isinstance(error, FileNotFoundError) and not _path(place).is_file()
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return missing is not None and f"{place}.".startswith(f"{missing}.")


def _path(place: str) -> Path:
    return Path(place).expanduser().resolve()


def _reason(error: Exception) -> str:
    return " ".join(shorten(f"{type(error).__name__}: {error}", 200).split())


def _attribute(function: Any) -> str | None:
    attribute = getattr(function, "__qualname__", None)
    return attribute if isinstance(attribute, str) and "<" not in attribute else None


def _inside(module: Any, attribute: str) -> Any:
    for part in attribute.split("."):
        module = getattr(module, part, None)
    return module


def _inmost(function: Any) -> Any:
    """What decorators have wrapped."""
    while (wrapped := getattr(function, "__wrapped__", None)) is not None:
        function = wrapped
    return function


def _named(module: types.ModuleType, attribute: str, found: Any) -> str:
    name = module.__name__
    if name in _MAIN and getattr(module, "__spec__", None) is not None:
        name = module.__spec__.name  # pyright: ignore[reportOptionalMemberAccess]  # python -m
    if name not in _MAIN and _is_importable(name):
        parts = name.split(".")
        packages = [".".join(parts[: end + 1]) for end in range(len(parts))]
        offers = (p for p in packages if _inside(sys.modules.get(p), attribute) is found)
        return f"{next(offers, name)}:{attribute}"
    file = getattr(module, "__file__", None)
    if file is None:
        raise NotPlainError(f"{attribute} was defined in no file")
    return f"{_place(Path(file))}:{attribute}"


def _is_importable(name: str) -> bool:
    """Whether another process finds the same module by `name`: the one of a file that was loaded by
    its path, as ml_collections loads configurations, is in no place that Python searches."""
    top = name.partition(".")[0]
    file = vars(sys.modules[top]).get("__file__") if top in sys.modules else None
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        if find_spec is not None and (spec := find_spec(top, None)) is not None:
            found = spec.origin if spec.has_location else None
            return file is None or found is None or Path(found).resolve() == Path(file).resolve()
    return False


def _place(path: Path) -> str:
    path = path.resolve()
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _module(name: str) -> Any:
    main = sys.modules["__main__"]
    if getattr(getattr(main, "__spec__", None), "name", None) == name:
        return main
    return importlib.import_module(name)


def _module_of_file(place: str) -> Any:
    path = _path(place)
    for module in list(sys.modules.values()):  # the running script, or one that is there already
        file = getattr(module, "__dict__", {}).get("__file__")
        same_name = isinstance(file, str) and os.path.basename(file) == path.name
        if same_name and Path(str(file)).resolve() == path:
            return module
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    name = _OWN + hashlib.sha256(str(path).encode()).hexdigest()[:16]
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        folder = str(path.parent)
        added = folder not in sys.path  # so that it finds its neighbours, as a script does
        sys.path += [folder] * added
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        finally:
            if added:
                sys.path.remove(folder)
    return sys.modules[name]
