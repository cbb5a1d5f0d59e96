"""The values that a configuration may hold, checked before anything is built from them."""

import math
from collections.abc import Mapping
from typing import Any

from l2ljax.checks import check_positive_int, short, shorten
from l2ljax.specification import check_mapping

DEEPEST = 10
"""Levels of dicts and lists, more than any configuration needs."""

LONGEST_EPISODE = 1_000_000
"""Inner steps; each has a weight in the compiled program."""

COUNTS = (
    "num_meta_updates",
    "num_tasks",
    "episode_length",
    "unroll_length",
    "checkpoint_every",
)

VALIDATION = {
    "num_tasks": "optimizees",
    "every": "meta-updates between validations",
}
"""What the field `validation` must have."""

EVALUATION = {
    "num_tasks": "optimizees",
    "num_steps": "inner steps of each",
    "num_tuning_tasks": "optimizees for each learning rate",
    "num_tuning_steps": "inner steps that rates are tuned for; default: num_steps",
    "task": "the task's arguments that differ from training",
    "seed": "default: the configuration's",
    "learning_rates": "name -> a baseline's rate, or the candidates that tuning starts from",
    "beside": "name -> weights of other learned optimizers to show",
    "gradient_scales": "name -> what a learned optimizer's gradients are multiplied by; default: 1",
    "unseen": "data set to report the accuracy on, as load_dataset's arguments; default: none",
    "final_batches": "minibatches to average the final parameters' loss over; default: none",
    "at_once": "optimizees run side by side",
}
"""What the field `evaluation` may have; the first three it must."""

MAPPINGS = ("task", "learning_rates", "beside", "gradient_scales", "unseen")
"""Those of its entries that are dicts; the others are counts."""

PARTS = {
    "validation": (VALIDATION, list(VALIDATION)),
    "evaluation": (EVALUATION, list(EVALUATION)[:3]),
}


def check_values(config: Mapping[str, Any]) -> None:
    """Refuses values that no experiment can have, whatever it is made of.

    Args:
        config: a configuration with all of its fields.

    Raises:
        ValueError: for what is not JSON, and for counts that are no positive integers, naming the
            field.
    """
    for name in config:
        check_json(name, config[name])
    check_positive_int("seed", config["seed"], minimum=0)
    for name in COUNTS:
        if name == "unroll_length" and name not in config:
            continue  # its estimator has none
        most = {"maximum": LONGEST_EPISODE} if name.endswith("_length") else {}
        check_positive_int(name, config[name], **most)
    for name in PARTS:
        check_part(name, config[name])


def check_part(name: str, value: Any) -> None:
    """Refuses a field `validation` or `evaluation` with unknown, missing or bad entries.

    Raises:
        ValueError: naming them.

    Example:
        >>> check_part("validation", {"num_tasks": 4})
        Traceback (most recent call last):
        ValueError: validation has wrong entries (missing: every); it takes num_tasks, every.
    """
    known, needed = PARTS[name]
    check_mapping(name, value, example='{"num_tasks": 4, ...}')
    problems = [
        f"{what}: {shorten(', '.join(entries), 200)}"
        for what, entries in (
            ("unknown", sorted(set(value) - set(known))),
            ("missing", [entry for entry in needed if entry not in value]),
        )
        if entries
    ]
    if problems:
        raise ValueError(
            f"{name} has wrong entries ({'; '.join(problems)}); it takes {', '.join(known)}."
        )
    for entry, given in value.items():
        if entry in MAPPINGS:
            check_mapping(f"{name}.{entry}", given, example='{"name": ...}')
        else:
            check_positive_int(f"{name}.{entry}", given, minimum=0 if entry == "seed" else 1)


def check_json(name: str, value: Any, depth: int = 0) -> None:
    """Refuses what a JSON file cannot hold, NaN and infinities included.

    Args:
        name: of the field, for the sentence.
        value: tuples count as lists.
        depth: of the value in the configuration.

    Example:
        >>> check_json("task", {"dim": 3, "scales": (0.5, float("nan"))})
        Traceback (most recent call last):
        ValueError: task.scales.1 must be a finite number, got nan.
    """
    if depth > DEEPEST:
        raise ValueError(f"{name} is nested too deeply: a configuration has {DEEPEST} levels.")
    if isinstance(value, Mapping):
        check_mapping(name, value, example='{"name": ...}')
        for key, inner in value.items():
            check_json(f"{name}.{key}", inner, depth + 1)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            check_json(f"{name}.{index}", inner, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value}.")
    elif not (value is None or type(value) in (bool, int, float, str)):
        raise ValueError(
            f"{name} must be a JSON value (a number, string, boolean, null, list or dict), got "
            f"{short(value)} of type {type(value).__name__}."
        )
