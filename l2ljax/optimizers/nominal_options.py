"""What bounds a step of `nominal` and what its network sees and says, checked."""

from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

from l2ljax.checks import check_choice, check_kind, check_number
from l2ljax.optimizers.lengths import checked_length
from l2ljax.optimizers.nominal_directions import DECAYS, OTHERS
from l2ljax.optimizers.nominal_network import num_outputs
from l2ljax.optimizers.nominal_statistics import num_features
from l2ljax.optimizers.transform import NonFinite


class Options(NamedTuple):
    """The arguments of `nominal`, but for the network's size."""

    num_steps: int | None
    rest_after: int | None
    rate: float
    span: float
    limit: float
    directions: tuple[str, ...]
    averaged: bool
    from_start: bool
    alone: bool
    noise_limit: float | None
    nonfinite: NonFinite


def checked(*given: Any) -> Options:
    """Options of these kinds, in their order.

    Raises:
        ValueError, TypeError: with the name of the one that is of another.
    """
    options = Options(*given)
    for name in ("num_steps", "rest_after"):
        if getattr(options, name) is not None:
            checked_length(name, getattr(options, name))
    check_number("rate", options.rate)
    for name in ("span", "limit"):
        check_number(name, getattr(options, name), above=0)
    if options.noise_limit is not None:
        check_number("noise_limit", options.noise_limit, above=0)
    for name in options.directions:
        check_choice("directions", name, OTHERS)
    for name in ("averaged", "from_start", "alone"):
        check_kind(name, getattr(options, name), bool)
    check_choice("nonfinite", options.nonfinite, get_args(NonFinite))
    return options._replace(directions=tuple(options.directions))


def layer_sizes(options: Options, hidden: Sequence[int]) -> tuple[int, ...]:
    """Of the network, from the table's columns to its outputs."""
    columns = num_features(len(DECAYS), options.num_steps is not None, options.from_start)
    return (columns, *hidden, num_outputs(len(options.directions), options.averaged))
