"""The fields of a configuration: what each is, what most experiments share, and their check."""

from collections.abc import Mapping
from typing import Any

from l2ljax.checks import check_choice, shorten
from l2ljax.experiments.configuration import check_values
from l2ljax.specification import check_mapping
from l2ljax.training.faults import Limits, check_limits

FIELDS = {
    "seed": "of everything random",
    "num_meta_updates": "meta-updates in all",
    "num_tasks": "optimizees a meta-update",
    "episode_length": "inner steps an episode [T]; the estimator may have bounds of its own",
    "unroll_length": "inner steps a window; may be left out for an estimator that has none",
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

WEIGHTS = {
    "all": None,
    "rising": lambda steps: 2 * steps / (len(steps) + 1),  # w_t ~ t, 1 in the mean
    "last": lambda steps: steps == steps[-1],
    # w_t ~ 1 / t, 1 in the mean: a factor of two in time counts alike early and late
    "log_spaced": lambda steps: len(steps) / (steps * (1 / steps).sum()),
}


def check_fields(config: Mapping[str, Any]) -> None:
    """Refuses a configuration with unknown or missing fields, or impossible values, naming them.

    Args:
        config: JSON values by name; `FIELDS` says what each is.

    Raises:
        ValueError: naming the fields; and for a value that its field cannot have.

    Example:
        >>> from l2ljax.command import bundled_config
        >>> check_fields(bundled_config("demo").to_dict())
    """
    check_mapping("The configuration", config, example='{"seed": 0, ...}')
    unknown = sorted(set(config) - set(FIELDS))
    missing = sorted(set(FIELDS) - OPTIONAL - {"unroll_length"} - set(config))
    if unknown or missing:
        problems = [f"unknown: {shorten(', '.join(unknown), 200)}"] * bool(unknown)
        problems += [f"missing: {', '.join(missing)}"] * bool(missing)
        raise ValueError(
            f"The configuration has wrong fields ({'; '.join(problems)}); "
            f"it must have {', '.join(FIELDS)}."
        )
    check_values(config)
    if not (isinstance(config["weights"], str) and ":" in config["weights"]):
        check_choice("weights", config["weights"], list(WEIGHTS))
    limits(config)


def limits(config: Mapping[str, Any]) -> Limits:
    """How many meta-updates that are not finite the run takes, as `meta_train` has them."""
    return check_limits(*(config.get(name, DEFAULTS[name]) for name in Limits._fields))
