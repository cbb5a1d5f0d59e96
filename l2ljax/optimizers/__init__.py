"""The learned optimizers: one file each, and one line each in `BUILDERS`."""

from collections.abc import Callable, Mapping
from typing import Any

from l2ljax.base import LearnedOptimizer
from l2ljax.checks import check_optimizer, short
from l2ljax.optimizers._celo import celo, scale_by_celo
from l2ljax.optimizers._celo2 import celo2, scale_by_celo2
from l2ljax.optimizers._celo_adam import celo_adam, scale_by_celo_adam
from l2ljax.optimizers._guard import GuardState, guard
from l2ljax.optimizers._hyperparameters import hyperparameters
from l2ljax.optimizers._lstm import lstm
from l2ljax.optimizers._nominal import nominal, scale_by_nominal
from l2ljax.optimizers._partition import partition
from l2ljax.optimizers._rnnprop import rnnprop, scale_by_rnnprop
from l2ljax.optimizers._small_fc import scale_by_small_fc, small_fc
from l2ljax.optimizers._velo import scale_by_velo, velo
from l2ljax.optimizers._wrap import wrap
from l2ljax.optimizers.labels import LABELS, conv_fc_labels, named_partition
from l2ljax.optimizers.networks import CoordinatewiseLSTM
from l2ljax.optimizers.parametrised import Parametrised, log, logit, plain
from l2ljax.optimizers.preprocess import identity, log_and_sign, log_sign
from l2ljax.optimizers.published import KINDS, from_published, load_published
from l2ljax.optimizers.sharding import state_shardings
from l2ljax.specification import call_with, check_mapping
from l2ljax.specification.names import find
from l2ljax.specification.plain import Specification, specification_of

BUILDERS: dict[str, Callable[..., LearnedOptimizer]] = {
    "celo": celo,
    "celo2": celo2,
    "celo_adam": celo_adam,
    "hyperparameters": hyperparameters,
    "lstm": lstm,
    "nominal": nominal,
    "partition": named_partition,
    "rnnprop": rnnprop,
    "small_fc": small_fc,
    "velo": velo,
    "wrap": wrap,
}
"""Name in configs and weight files -> builder. A new learned optimizer adds its line here."""

PREPROCESS = {"identity": identity, "log_and_sign": log_and_sign, "log_sign": log_sign}

SCALES = {"log": log, "logit": logit, "plain": plain}
"""What a hyperparameter's `specification` may name."""


def build(specification: Mapping[str, Any]) -> LearnedOptimizer:
    """A learned optimizer from plain data, as configs and weight files hold it.

    Args:
        specification: `name` in `BUILDERS`, or `"module:attribute"` or `"file.py:attribute"` of a
            builder of one's own, and the builder's arguments by name. A dict with a `name` among
            them is itself a specification: of a `preprocess`, of a learned optimizer, such as each
            of a partition's `optimizers`, or of what one's own function returns.

    Returns:
        the learned optimizer, which carries the specification that rebuilds it.

    Raises:
        ValueError: for a name or an argument that is not known, in a member of a partition too,
            and for a builder that returns no learned optimizer.

    Example:
        >>> optimizer = build(
        ...     {"name": "lstm", "hidden_sizes": [8], "preprocess": {"name": "log_sign", "p": 10.0}}
        ... )
        >>> members = {"conv": {"name": "lstm"}, "fc": {"name": "lstm", "hidden_sizes": [8]}}
        >>> both = build({"name": "partition", "optimizers": members, "labels": "conv_fc"})
    """
    optimizer = _build(specification)
    if not isinstance(optimizer, LearnedOptimizer):
        raise ValueError(
            f"The optimizer {short(specification['name'])} must return a LearnedOptimizer, got "
            f"{short(optimizer)}."
        )
    return optimizer


def _build(specification: Any) -> Any:
    """As `build`, for what one's own function returns too."""
    check_mapping("optimizer", specification, example='{"name": "lstm"}')
    arguments = {key: _with_parts(key, value) for key, value in specification.items()}
    made = call_with(BUILDERS, arguments, "optimizer")
    if isinstance(made, LearnedOptimizer) and made.specification is None:
        try:
            made = Specification(specification).made_by(None, made)
        except (TypeError, ValueError):  # given with values that are no plain data
            return made
    return made


def _with_parts(argument: str, value: Any) -> Any:
    """The value of an argument, with what is specified in it built."""
    if argument == "optimizers":
        _check_members(value)
    if isinstance(value, Mapping):
        if set(value) == {"function"}:
            return value  # call_with finds it
        if argument == "preprocess" or (
            isinstance(value.get("name"), str) and value["name"] in PREPROCESS
        ):
            return call_with(PREPROCESS, value, "preprocess")
        if isinstance(value.get("name"), str) and value["name"] in SCALES:
            return call_with(SCALES, value, "hyperparameter")
        if "name" in value:
            return _build(value)
        return {key: _with_parts("", inner) for key, inner in value.items()}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return [_with_parts("", inner) for inner in value]
    return value


def _check_members(members: Any) -> None:
    if not isinstance(members, Mapping) or not all(
        isinstance(member, Mapping | LearnedOptimizer) for member in members.values()
    ):
        raise ValueError(
            "optimizers must be a dict of label -> specification such as "
            f'{{"conv": {{"name": "lstm"}}}}, got {short(members)}.'
        )


def network_of(optimizer: LearnedOptimizer) -> CoordinatewiseLSTM:
    """The network inside an `lstm(...)`, as `scale_by_lstm` takes it beside the meta-parameters.

    A network of other settings, such as the default `output_scale`, would take the same
    meta-parameters and make other updates. `optimizer.transform(meta_params)` needs no network.

    Args:
        optimizer: from `lstm(...)`.

    Returns:
        a network with all of its settings.

    Raises:
        ValueError: for another learned optimizer.

    Example:
        >>> network_of(lstm((8,), output_scale=0.5)).output_scale
        0.5
    """
    check_optimizer("optimizer", optimizer)
    specification = specification_of(optimizer)
    if specification is None or specification["name"] != "lstm":
        raise ValueError(
            f"network_of needs an optimizer that l2ljax.lstm made, got {short(optimizer)}; use its "
            "optimizer.transform(meta_params)."
        )
    settings = {name: specification[name] for name in NETWORK_SETTINGS if name in specification}
    preprocess = _with_parts("preprocess", settings["preprocess"])
    by_name = isinstance(preprocess, Mapping)
    settings["preprocess"] = find(preprocess["function"]) if by_name else preprocess
    return CoordinatewiseLSTM(**settings)


NETWORK_SETTINGS = (
    "hidden_sizes", "preprocess", "output_scale", "forget_bias", "dtype", "state_dtype", "kernel",
)  # fmt: skip


__all__ = [
    "BUILDERS",
    "KINDS",
    "LABELS",
    "PREPROCESS",
    "GuardState",
    "Parametrised",
    "build",
    "celo",
    "celo2",
    "celo_adam",
    "conv_fc_labels",
    "from_published",
    "guard",
    "hyperparameters",
    "load_published",
    "log",
    "logit",
    "lstm",
    "named_partition",
    "network_of",
    "nominal",
    "partition",
    "rnnprop",
    "scale_by_celo",
    "scale_by_celo2",
    "scale_by_celo_adam",
    "scale_by_nominal",
    "scale_by_rnnprop",
    "scale_by_small_fc",
    "scale_by_velo",
    "small_fc",
    "state_shardings",
    "velo",
    "wrap",
]
