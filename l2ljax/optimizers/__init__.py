"""The learned optimizers: one file each, and one line each in `BUILDERS`."""

from collections.abc import Callable, Mapping
from typing import Any

from l2ljax.base import LearnedOptimizer
from l2ljax.optimizers.lstm import lstm
from l2ljax.optimizers.partition import partition
from l2ljax.preprocess import identity, log_sign
from l2ljax.specification import call_with

BUILDERS: dict[str, Callable[..., LearnedOptimizer]] = {
    "lstm": lstm,
}
"""Name in configs and weight files -> builder. A new learned optimizer adds its line here."""

PREPROCESS = {"identity": identity, "log_sign": log_sign}


def build(specification: Mapping[str, Any]) -> LearnedOptimizer:
    """A learned optimizer from plain data, as configs and weight files hold it.

    Args:
        specification: `name` in `BUILDERS`, and the builder's arguments by name; `preprocess` is
            itself a specification.

    Raises:
        ValueError: for a name or an argument that is not known.

    Example:
        >>> optimizer = build(
        ...     {"name": "lstm", "hidden_sizes": [8], "preprocess": {"name": "log_sign", "p": 10.0}}
        ... )
    """
    arguments = dict(specification)
    if isinstance(arguments.get("preprocess"), Mapping):
        arguments["preprocess"] = call_with(PREPROCESS, arguments["preprocess"], "preprocess")
    return call_with(BUILDERS, arguments, "optimizer")


__all__ = ["BUILDERS", "PREPROCESS", "build", "lstm", "partition"]
