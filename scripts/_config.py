"""The flag `--config`: any field is a flag, those without a value and `initial` in any form too."""

import ast
from collections.abc import Callable
from typing import Any

from absl import flags
from ml_collections import config_flags

INITIAL = "config.initial"


class Anything(flags.ArgumentParser):
    """What is given for a field that has no value yet: a literal of Python, or else a string."""

    def parse(self, argument: Any) -> Any:
        try:
            return ast.literal_eval(argument)
        except (ValueError, SyntaxError, TypeError):
            return argument


def define_config() -> Callable[[], dict[str, Any]]:
    """Defines `--config`; returns a function that gives the configuration once flags are parsed."""
    config_flags.register_flag_parser_for_type(type(None), Anything())
    holder = config_flags.DEFINE_config_file("config", None, "A file of configs/.")

    def config() -> dict[str, Any]:
        return with_initial(holder.value.to_dict(), _initial)

    return config


_initial: dict[str, str] = {}
"""Of the command line: "" -> `--config.initial`, LABEL -> `--config.initial.LABEL`."""


def take_initial(argv: list[str]) -> list[str]:
    """`argv` without the flags for `initial`, which may be a string or a dict of them, unlike what
    the configuration's file has there; `define_config`'s function gives them."""
    rest, found = [], {}
    words = iter(argv)
    for word in words:
        name, given, value = word.partition("=")
        field = name.lstrip("-")
        if not (name.startswith("-") and (field + ".").startswith(INITIAL + ".")):
            rest.append(word)
            continue
        label = field[len(INITIAL) + 1 :]
        found[label] = value if given else next(words, "")
        if not found[label]:
            raise ValueError(f"{name} needs a bundled optimizer's name or a file.")
    _initial.clear()
    _initial.update(found)
    return rest


def with_initial(config: dict[str, Any], given: dict[str, str]) -> dict[str, Any]:
    """`config` with its field `initial` as flags give it.

    Example:
        >>> with_initial({"initial": None}, {"conv": "lstm-mnist"})
        {'initial': {'conv': 'lstm-mnist'}}
    """
    if not given:
        return config
    whole = given.get("", config.get("initial"))
    labels = {label: source for label, source in given.items() if label}
    if labels:
        whole = {**(whole if isinstance(whole, dict) else {}), **labels}
    elif isinstance(whole, str) and whole.startswith("{"):
        whole = Anything().parse(whole)
    return {**config, "initial": None if whole in ("None", "none") else whole}
