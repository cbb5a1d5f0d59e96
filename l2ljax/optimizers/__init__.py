"""The learned optimizers: one file each, and one line each in `BUILDERS`."""

from collections.abc import Callable, Mapping
from typing import Any

from l2ljax.base import LearnedOptimizer
from l2ljax.checks import short
from l2ljax.optimizers._celo import celo, scale_by_celo
from l2ljax.optimizers._celo_adam import celo_adam, scale_by_celo_adam
from l2ljax.optimizers._guard import GuardState, guard
from l2ljax.optimizers._hyperparameters import hyperparameters
from l2ljax.optimizers._lstm import lstm
from l2ljax.optimizers._partition import partition
from l2ljax.optimizers._velo import scale_by_velo, velo
from l2ljax.optimizers.labels import LABELS, conv_fc_labels, named_partition
from l2ljax.optimizers.parametrised import Parametrised, log, logit
from l2ljax.optimizers.preprocess import identity, log_sign
from l2ljax.specification import call_with, check_mapping

BUILDERS: dict[str, Callable[..., LearnedOptimizer]] = {
    "celo": celo,
    "celo_adam": celo_adam,
    "hyperparameters": hyperparameters,
    "lstm": lstm,
    "partition": named_partition,
    "velo": velo,
}
"""Name in configs and weight files -> builder. A new learned optimizer adds its line here."""

PREPROCESS = {"identity": identity, "log_sign": log_sign}


def build(specification: Mapping[str, Any]) -> LearnedOptimizer:
    """A learned optimizer from plain data, as configs and weight files hold it.

    Args:
        specification: `name` in `BUILDERS`, and the builder's arguments by name; `preprocess` is
            itself a specification, and so is each of a partition's `optimizers`.

    Raises:
        ValueError: for a name or an argument that is not known, in a member of a partition too.

    Example:
        >>> optimizer = build(
        ...     {"name": "lstm", "hidden_sizes": [8], "preprocess": {"name": "log_sign", "p": 10.0}}
        ... )
        >>> members = {"conv": {"name": "lstm"}, "fc": {"name": "lstm", "hidden_sizes": [8]}}
        >>> both = build({"name": "partition", "optimizers": members, "labels": "conv_fc"})
    """
    check_mapping("optimizer", specification, example='{"name": "lstm"}')
    arguments = dict(specification)
    if isinstance(arguments.get("preprocess"), Mapping):
        arguments["preprocess"] = call_with(PREPROCESS, arguments["preprocess"], "preprocess")
    if "optimizers" in arguments:
        arguments["optimizers"] = _build_members(arguments["optimizers"])
    return call_with(BUILDERS, arguments, "optimizer")


def _build_members(members: Any) -> dict[str, LearnedOptimizer]:
    if not isinstance(members, Mapping) or not all(
        isinstance(member, Mapping) for member in members.values()
    ):
        raise ValueError(
            "optimizers must be a dict of label -> specification such as "
            f'{{"conv": {{"name": "lstm"}}}}, got {short(members)}.'
        )
    return {label: build(member) for label, member in members.items()}


__all__ = [
    "BUILDERS",
    "LABELS",
    "PREPROCESS",
    "GuardState",
    "Parametrised",
    "build",
    "celo",
    "celo_adam",
    "conv_fc_labels",
    "guard",
    "hyperparameters",
    "log",
    "logit",
    "lstm",
    "named_partition",
    "partition",
    "scale_by_celo",
    "scale_by_celo_adam",
    "scale_by_velo",
    "velo",
]
