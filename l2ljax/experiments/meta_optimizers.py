"""What trains the meta-parameters: the paper's Adam, and any of Optax by name."""

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optax

from l2ljax.checks import check_choice, check_number, check_positive_int, check_transform, short
from l2ljax.specification import call_with, check_mapping, find_builder


def adam(
    num_meta_updates: int,
    learning_rate: float,
    clip_norm: float,
    schedule: str = "cosine",
    restarts: Sequence[int] = (),
    b1: float = 0.9,
) -> optax.GradientTransformation:
    """Adam behind clipping by global norm.

    Args:
        num_meta_updates: length of the schedule.
        learning_rate: at the start.
        clip_norm: largest norm of the meta-gradient.
        schedule: "cosine" (to 0 at the end) or "constant".
        restarts: meta-updates at which the cosine has come to 0 and starts over
            (Loshchilov & Hutter 2017), in ascending order.
        b1: decay of the momentum, in [0, 1); a mixture's members take turns, so nearer 1 for many.

    Returns:
        an Optax transformation.

    Raises:
        ValueError: for an unknown schedule, restarts that are not ascending inside the run, or a
            number out of range.

    Example:
        >>> tx = adam(num_meta_updates=1000, learning_rate=3e-3, clip_norm=1.0)
    """
    check_positive_int("num_meta_updates", num_meta_updates)
    check_number("learning_rate", learning_rate, above=0)
    check_number("clip_norm", clip_norm, above=0)
    check_choice("schedule", schedule, ["cosine", "constant"])
    check_number("b1", b1)
    if not 0 <= b1 < 1:
        raise ValueError(f"b1 must be at least 0 and below 1, got {short(b1)}.")
    if not isinstance(restarts, Sequence) or isinstance(restarts, str):
        raise ValueError(f"restarts must be a list of meta-updates, got {short(restarts)}.")
    for restart in restarts:
        check_positive_int("restarts", restart)
    bounds = (0, *restarts, num_meta_updates)
    if any(end <= start for start, end in itertools.pairwise(bounds)):
        raise ValueError(
            f"restarts must ascend between 0 and num_meta_updates={num_meta_updates}, "
            f"got {short(tuple(restarts))}."
        )
    rate = optax.constant_schedule(learning_rate)
    if schedule == "cosine":
        rate = optax.join_schedules(
            [
                optax.cosine_decay_schedule(learning_rate, end - start)
                for start, end in itertools.pairwise(bounds)
            ],
            list(restarts),
        )
    return optax.chain(optax.clip_by_global_norm(clip_norm), optax.adam(rate, b1=b1))


META_OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"adam": adam}
"""Name in configs -> builder; one of one's own, or of Optax, is named `"module:attribute"`."""


def build_meta_optimizer(
    specification: Mapping[str, Any], num_meta_updates: int
) -> optax.GradientTransformation:
    """A meta-optimizer from its specification.

    Args:
        specification: `name` in `META_OPTIMIZERS` or such as `"optax:adamw"`, and arguments;
            `{"name": "optax:cosine_decay_schedule", ...}` among them is a schedule.
        num_meta_updates: of the run; for builders that take it.

    Returns:
        an Optax transformation.

    Raises:
        ValueError: for names and arguments that are not known.
        TypeError: for a builder that returns no Optax transformation.

    Example:
        >>> tx = build_meta_optimizer({"name": "optax:adamw", "learning_rate": 1e-3}, 100)
    """
    check_mapping("meta_optimizer", specification, example='{"name": "adam"}')
    builder = find_builder(META_OPTIMIZERS, specification.get("name"), "meta_optimizer")
    given = {"num_meta_updates": num_meta_updates} if takes(builder, "num_meta_updates") else {}
    check_free("meta_optimizer", specification, given)
    tx = call_with(META_OPTIMIZERS, specification, "meta_optimizer", **given)
    check_transform("meta_optimizer", tx)
    return tx


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether `function` has an argument `name`, or takes any.

    Example:
        >>> takes(optax.sgd, "momentum"), takes(optax.sgd, "num_meta_updates"), takes(dict, "a")
        (True, False, False)
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C
        return False
    return any(
        parameter.kind is parameter.VAR_KEYWORD
        or (parameter.name == name and parameter.kind is not parameter.POSITIONAL_ONLY)
        for parameter in parameters
    )


def needs(function: Callable[..., Any], name: str) -> bool:
    """Whether `function` has an argument `name` without a default.

    Example:
        >>> needs(optax.sgd, "learning_rate"), needs(optax.sgd, "momentum"), needs(dict, "a")
        (True, False, False)
    """
    if not takes(function, name):
        return False
    parameter = inspect.signature(function).parameters.get(name)
    return parameter is not None and parameter.default is parameter.empty


def check_free(what: str, specification: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuses arguments in a specification that the configuration's own fields give.

    Raises:
        ValueError: naming the first.
    """
    for name in given:
        if name in specification:
            raise ValueError(
                f"{what}.{name} is what the rest of the configuration says (num_tasks, "
                "episode_length, ... are fields of their own); leave it out there."
            )
