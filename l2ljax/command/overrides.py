"""`--config.x=y`: any field is a flag, those without a value and `initial` in any form too."""

import ast
from collections.abc import Sequence
from typing import Any

from absl import flags

INITIAL = "config.initial"


class Anything(flags.ArgumentParser):
    """What is given for a field that has no value yet: a literal of Python, or else a string."""

    def parse(self, argument: Any) -> Any:
        try:
            return ast.literal_eval(argument)
        except (ValueError, SyntaxError, TypeError):
            return argument


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a command line without those for fields of the configuration, and those.

    Example:
        >>> split_overrides(["demo", "--config.num_tasks=4", "--config.seed", "1", "--quiet"])
        (['demo', '--quiet'], ['--config.num_tasks=4', '--config.seed=1'])
    """
    rest, fields = [], []
    left = list(words)
    while left:
        word = left.pop(0)
        name, given, _ = word.partition("=")
        if not name.startswith(("--config.", "-config.", "--noconfig.", "-noconfig.")):
            rest.append(word)
        elif given or name.lstrip("-").startswith("no") or not left or left[0].startswith("--"):
            fields.append(word)
        else:
            fields.append(f"{word}={left.pop(0)}")
    return rest, fields


def with_overrides(config: Any, words: Sequence[str]) -> dict[str, Any]:
    """A configuration as plain data, with the fields that flags give.

    Args:
        config: a `ConfigDict`, which is changed.
        words: `--config.x=y` each. A field keeps its type, and must be there.

    Raises:
        ValueError: for a field that is not there, and a value of another type.

    Example:
        >>> import ml_collections
        >>> with_overrides(ml_collections.ConfigDict({"a": {"b": 1}}), ["--config.a.b=2"])
        {'a': {'b': 2}}
    """
    from ml_collections import config_flags

    config_flags.register_flag_parser_for_type(type(None), Anything())
    rest, initial = take_initial(words)
    argv, values = ["l2ljax", *rest], flags.FlagValues()
    try:
        holder = config_flags.DEFINE_config_dict(
            "config", config, flag_values=values, sys_argv=argv
        )
        values(argv)
    except (AttributeError, KeyError) as error:  # ml_collections, for an unknown field
        said = str(error.args[0]).replace("\\n", " ").replace("\\", "").replace("'", "")
        raise ValueError(
            f"A --config flag overrides a field that the configuration does not have: {said}"
        ) from error
    except (flags.Error, TypeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"A --config flag does not fit the configuration: {said}") from error
    return with_initial(holder.value.to_dict(), initial)


def take_initial(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """`words` without the flags for `initial`, and what those give, for `with_initial`.

    It may be a string or a dict of them, unlike what the configuration's file has there. What is
    given is "" -> `--config.initial`, LABEL -> `--config.initial.LABEL`.

    Raises:
        ValueError: for a flag without a value.
    """
    rest, found = [], {}
    for word in words:
        name, _, value = word.partition("=")
        field = name.lstrip("-")
        if not (field + ".").startswith(INITIAL + "."):
            rest.append(word)
        elif not value:
            raise ValueError(f"{name} needs a bundled optimizer's name or a file.")
        else:
            found[field[len(INITIAL) + 1 :]] = value
    return rest, found


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
