"""The fields of a configuration: what each is, what most experiments share, and their check."""

import copy
from collections.abc import Mapping
from typing import Any

from l2ljax.checks import check_choice, shorten
from l2ljax.experiments.configuration import PARTS, check_values
from l2ljax.specification import check_mapping
from l2ljax.training.faults import Limits, check_limits

FIELDS = {
    "seed": "of everything random",
    "num_meta_updates": "meta-updates in all",
    "num_tasks": "optimizees a meta-update",
    "episode_length": "inner steps an episode [T]; the estimator may have bounds of its own",
    "unroll_length": "inner steps a window; may be left out: 20, or the episode if that is shorter",
    "task": "specification of what to optimize",
    "optimizer": "specification of what learns to",
    "estimator": "specification of the meta-gradient",
    "weights": '"all", "rising", "last" or "log_spaced": how the meta-loss weighs the steps; or '
    '"module:attribute" of a function of the positions 1 ... T',
    "meta_optimizer": "specification of what trains the meta-parameters",
    "validation": "num_tasks and every (meta-updates) of the scoring that selects the best",
    "checkpoint_every": "meta-updates between checkpoints",
    "evaluation": "num_tasks, num_steps, num_tuning_tasks, task (arguments that differ)",
    "initial": "weights to start from (a bundled optimizer's name or a file; a dict of them for a "
    "partition), or null; may be left out",
    "max_consecutive_skips": "skipped meta-updates in a row after which training goes back to the "
    "best meta-parameters with half the step; may be left out",
    "max_restores": "times that it goes back before it stops; may be left out",
    "content": "short for the task's, where a configuration has it; may be left out",
    "style": "likewise",
}
NEEDED = ("task", "optimizer")
"""All others have a default, or may be left out; see `completed`."""

OPTIONAL = {"initial", "max_consecutive_skips", "max_restores", "content", "style"}

DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "episode_length": 100,
    "unroll_length": 20,
    "estimator": {"name": "truncated_bptt", "coordinate_share": 1.0},
    "weights": "all",
    "meta_optimizer": {
        "name": "adam",
        "learning_rate": 3e-3,
        "clip_norm": 1.0,
        "schedule": "cosine",
        "restarts": (),
    },
    "checkpoint_every": 500,
    "initial": None,
    "max_consecutive_skips": 10,
    "max_restores": 3,
}
"""What most experiments share; `configs/` start from these fields."""

SMALL: dict[str, Any] = {
    "num_meta_updates": 1000,
    "num_tasks": 64,
    "validation": {"num_tasks": 64, "every": 50},
}
"""What else a configuration that does not say it is given: minutes on a laptop for small tasks."""

WEIGHTS = {
    "all": None,
    "rising": lambda steps: 2 * steps / (len(steps) + 1),  # w_t ~ t, 1 in the mean
    "last": lambda steps: steps == steps[-1],
    # w_t ~ 1 / t, 1 in the mean: a factor of two in time counts alike early and late
    "log_spaced": lambda steps: len(steps) / (steps * (1 / steps).sum()),
}


def defaults_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration's fields stand for where it has none.

    Those of `DEFAULTS` and `SMALL`, and an `evaluation` over as many steps as an episode has;
    `unroll_length` is the estimator's matter.
    """
    found = {name: value for name, value in DEFAULTS.items() if name != "unroll_length"} | SMALL
    num_steps = config.get("episode_length", found["episode_length"])
    evaluation = {"num_tasks": 64, "num_steps": num_steps, "num_tuning_tasks": 64}
    return copy.deepcopy(found | {"evaluation": evaluation})


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with every field that has a default; `task` and `optimizer` have none.

    Args:
        config: JSON values by name; `FIELDS` says what each is. Of `validation` and `evaluation`
            some entries may be left out, too.

    Returns:
        JSON values by name.

    Raises:
        ValueError: for what is no dict of names.

    Example:
        >>> config = completed({"task": {"name": "quadratic"}, "optimizer": {"name": "lstm"}})
        >>> config["episode_length"], config["weights"], config["validation"]["every"]
        (100, 'all', 50)
    """
    check_mapping("The configuration", config, example='{"seed": 0, ...}')
    filled = defaults_of(config)
    given = {
        name: {**filled[name], **value} if name in PARTS and isinstance(value, Mapping) else value
        for name, value in config.items()
    }
    return {**filled, **given}


def check_fields(config: Mapping[str, Any]) -> None:
    """Refuses a configuration with unknown or missing fields, or impossible values, naming them.

    Args:
        config: JSON values by name; `FIELDS` says what each is, `completed` what those that are
            left out stand for.

    Raises:
        ValueError: naming the fields; and for a value that its field cannot have.

    Example:
        >>> from l2ljax.command import bundled_config
        >>> check_fields(bundled_config("demo").to_dict())
    """
    check_mapping("The configuration", config, example='{"seed": 0, ...}')
    unknown = sorted(set(config) - set(FIELDS))
    missing = [name for name in NEEDED if name not in config]
    if unknown or missing:
        problems = [f"unknown: {shorten(', '.join(unknown), 200)}"] * bool(unknown)
        problems += [f"missing: {', '.join(missing)}"] * bool(missing)
        others = ", ".join(name for name in FIELDS if name not in NEEDED)
        raise ValueError(
            f"The configuration has wrong fields ({'; '.join(problems)}); it must have "
            f"{' and '.join(NEEDED)}, and takes {others}."
        )
    config = completed(config)
    check_values(config)
    if not (isinstance(config["weights"], str) and ":" in config["weights"]):
        check_choice("weights", config["weights"], list(WEIGHTS))
    limits(config)


def limits(config: Mapping[str, Any]) -> Limits:
    """How many meta-updates that are not finite the run takes, as `meta_train` has them."""
    return check_limits(*(config.get(name, DEFAULTS[name]) for name in Limits._fields))
