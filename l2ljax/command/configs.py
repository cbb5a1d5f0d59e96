"""Configurations by name, by file, or by the function that makes one.

Those of `configs/` are in a clone beside the package, and in an installed wheel inside of it.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l2ljax.base.words import hint
from l2ljax.checks import short, shorten
from l2ljax.specification.names import find

PACKAGE = Path(__file__).parents[1]
FUNCTION = "get_config"
"""What a configuration's file calls the function that returns it."""


def config_folder() -> Path:
    """Where the bundled configurations are."""
    clone = PACKAGE.parent
    # A folder called configs beside an installed package would be somebody else's.
    return clone / "configs" if (clone / "pyproject.toml").is_file() else PACKAGE / "configs"


def config_names() -> list[str]:
    """Names of the bundled configurations.

    Returns:
        the names, in alphabetical order.

    Example:
        >>> "demo" in config_names()
        True
    """
    return sorted(path.stem for path in config_folder().glob("[!_]*.py"))


def config_path(name: str) -> Path:
    """The file of a bundled configuration.

    Raises:
        ValueError: for a name that is not in `config_names()`, with those there are.
    """
    names = config_names()
    if name not in names:
        raise ValueError(
            f"There is no configuration {short(name)}{hint(name, names)}; there are "
            f"{', '.join(names)}. A file.py or module:function will do as well."
        )
    return config_folder() / f"{name}.py"


def bundled_config(name: str) -> Any:
    """A bundled configuration, a new `ConfigDict`.

    Args:
        name: one of `config_names()`.

    Returns:
        the `ml_collections.ConfigDict`, which may be changed; `.to_dict()` is what
        `l2ljax.experiments.run` takes.

    Raises:
        ValueError: for a name that is not in `config_names()`.

    Example:
        >>> bundled_config("demo").task.name
        'quadratic'
    """
    return make_config(name)


def make_config(source: str) -> Any:
    """The `ConfigDict` that `source` names.

    Args:
        source: a bundled configuration; `"file.py"`, whose `get_config()` is called;
            `"module:function"` or `"file.py:function"`, which takes no argument; or
            `"file.py:word"` for `get_config("word")`, where that takes one.

    Raises:
        ValueError: if there is none such, if its code fails, and for what is no configuration; in
            one sentence.
    """
    import ml_collections

    make, arguments = _maker(source)
    try:
        config = make(*arguments)
    except Exception as error:  # whatever the file's own code raises
        reason = shorten(f"{type(error).__name__}: {error}", 200)
        raise ValueError(f"Making the configuration {short(source)} failed ({reason}).") from error
    known: Any = (Mapping, ml_collections.ConfigDict, ml_collections.FrozenConfigDict)
    if not isinstance(config, known):
        raise ValueError(
            f"The configuration {short(source)} must be a ConfigDict or a dict, got "
            f"{short(config)}."
        )
    return ml_collections.ConfigDict(config)


def _maker(source: str) -> tuple[Any, tuple[str, ...]]:
    """A function and what it is called with."""
    place, given, attribute = source.rpartition(":")
    if not given:
        place, attribute = source, FUNCTION
    if not place.endswith(".py"):
        found = find(source) if given else find(f"{config_path(place)}:{FUNCTION}")
    elif not Path(place).expanduser().is_file():
        raise ValueError(f"There is no file {place}{_bundled_instead(place)}")
    else:
        if given and not _has(place, attribute) and _takes_a_word(place):
            return find(f"{place}:{FUNCTION}"), (attribute,)
        found = find(f"{place}:{attribute}")
    if not callable(found):
        raise ValueError(
            f"{short(source)} must be a function without arguments, got {short(found)}."
        )
    return found, ()


def _bundled_instead(place: str) -> str:
    name = Path(place).stem
    return f"; the bundled one is called {name!r}." if name in config_names() else "."


def _has(place: str, attribute: str) -> bool:
    try:
        find(f"{place}:{attribute}")
    except ValueError:
        return False
    return True


def _takes_a_word(place: str) -> bool:
    """Whether the file's `get_config` takes an argument, as ml_collections' may."""
    return _has(place, FUNCTION) and bool(inspect.signature(find(f"{place}:{FUNCTION}")).parameters)
