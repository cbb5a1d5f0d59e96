"""The parts of an experiment from their specifications: tasks, estimators, one's own too."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jax.sharding import Mesh

from l2ljax import estimators, optimizers, tasks
from l2ljax.base import GradientEstimator, LearnedOptimizer, Task
from l2ljax.checks import check_choice, short
from l2ljax.estimators.crossing import check_crossing
from l2ljax.experiments.configuration import DEEPEST
from l2ljax.experiments.fields import DEFAULTS, WEIGHTS
from l2ljax.experiments.meta_optimizers import META_OPTIMIZERS, check_free, needs, takes
from l2ljax.specification import call_with, check_arguments, check_mapping, find_builder
from l2ljax.specification.names import find, name_in_file, name_of_builder
from l2ljax.tasks.data import Images, load_dataset

Builders = Mapping[str, Callable[..., Any]]


def build_task(specification: Mapping[str, Any], data_dir: str | None) -> Task:
    """A task from its specification.

    `dataset` is `load_dataset`'s arguments as a dict; the specification of another task, which a
    transformation of tasks takes, is built first.

    Args:
        specification: `name` in `l2ljax.tasks.BUILDERS`, or `"module:attribute"` or
            `"file.py:attribute"` of a builder of one's own, and the builder's arguments by name.
        data_dir: as in `load_dataset`.

    Returns:
        the task, with its data on the default device.

    Raises:
        ValueError, TypeError: for names and arguments that are not known, and a builder that
            returns no task.

    Example:
        >>> import jax
        >>> task = build_task({"name": "quadratic", "dim": 3}, data_dir=None)
        >>> task.init(task.sample(task.data, jax.random.key(0)), jax.random.key(1)).shape
        (3,)
    """
    check_mapping("task", specification, example='{"name": "quadratic"}')
    arguments = {}
    for name, value in specification.items():
        if name == "dataset":
            value = load_images("dataset", value, data_dir)
        elif isinstance(value, Mapping) and (
            value.get("name") in tasks.BUILDERS or (name == "task" and "name" in value)
        ):
            value = build_task(value, data_dir)
        arguments[name] = value
    task = call_with(tasks.BUILDERS, arguments, "task")
    if not isinstance(task, Task):
        raise TypeError(
            f"The task {short(specification['name'])} must return an l2ljax.Task, got "
            f"{short(task)}."
        )
    return task


def load_images(what: str, arguments: Any, data_dir: str | None) -> Images:
    """`load_dataset` of arguments that a configuration holds in its field `what`.

    A `data_dir` that is given goes before one of those.
    """
    check_mapping(what, arguments, example='{"name": "mnist", "split": "train"}')
    arguments = {**arguments, **({} if data_dir is None else {"data_dir": data_dir})}
    check_arguments(what, load_dataset, arguments)
    return load_dataset(**arguments)


def step_weights(config: Mapping[str, Any]) -> Callable[[np.ndarray], Any] | None:
    """How the meta-loss weighs the steps 1 ... T, `None` for all alike."""
    return _weights_named(config.get("weights", DEFAULTS["weights"]))


def _weights_named(name: str) -> Callable[[np.ndarray], Any] | None:
    if not (isinstance(name, str) and ":" in name):
        check_choice("weights", name, list(WEIGHTS))
    return WEIGHTS[name] if name in WEIGHTS else find(name)


def build_estimator(
    config: Mapping[str, Any],
    task: Task,
    optimizer: LearnedOptimizer,
    mesh: Mesh | None,
    data_dir: str | None = None,
) -> GradientEstimator:
    """The estimator of a configuration.

    Its builder is given what its signature takes of `task`, `optimizer`, `num_tasks`,
    `episode_length`, `unroll_length`, `weights` and `mesh`. Specifications among its arguments, in
    dicts or lists, are estimators too, built likewise; they may have a `task` (a specification),
    `num_tasks`, `episode_length`, `unroll_length` and `weights` of their own. The outermost may
    have bounds [low, high] of lengths to be drawn as its `episode_length`; the configuration's is
    then that of validation.

    Args:
        config: with the field `estimator`, and those that its builder takes; `weights` and
            `unroll_length` have defaults.
        task: for the builder.
        optimizer: likewise.
        mesh: likewise; `None`: one device.
        data_dir: as in `load_dataset`, for estimators with a task of their own.

    Returns:
        the estimator.

    Raises:
        ValueError: for names and arguments that are not known; for a field that it needs and the
            configuration lacks; and for weights other than "all" that it does not take.
        TypeError: for a builder that returns no estimator.

    Example:
        >>> config = {
        ...     "estimator": {"name": "truncated_bptt"},
        ...     "weights": "last",
        ...     "num_tasks": 4,
        ...     "episode_length": 10,
        ...     "unroll_length": 5,
        ... }
        >>> task = build_task({"name": "quadratic"}, data_dir=None)
        >>> build_estimator(config, task, optimizers.lstm((4,)), mesh=None).unroll_length
        5
    """
    given = {
        "task": task,
        "optimizer": optimizer,
        "weights": step_weights(config),
        **{n: config[n] for n in ("num_tasks", "episode_length", "unroll_length") if n in config},
        **({"mesh": mesh} if mesh is not None else {}),
    }
    specification = config["estimator"]
    check_mapping("estimator", specification, example='{"name": "truncated_bptt"}')
    bounds = specification.get("episode_length")
    if not isinstance(bounds, list | tuple):
        return _build_estimator(specification, given, data_dir)
    rest = {name: value for name, value in specification.items() if name != "episode_length"}
    own = {"episode_length": tuple(bounds)}
    return _build_estimator(rest, {**given, **own}, data_dir, own)


OWN = ("num_tasks", "episode_length", "unroll_length")
"""What an estimator inside another may have instead of the configuration's."""


def _build_inner(specification: Mapping[str, Any], given: Mapping[str, Any], data_dir: Any) -> Any:
    """An estimator inside another, with what is its own."""
    own = {name: specification[name] for name in OWN if name in specification}
    if "weights" in specification:
        own["weights"] = _weights_named(specification["weights"])
    if "task" in specification:
        own["task"] = build_task(specification["task"], data_dir)
    rest = {name: value for name, value in specification.items() if name not in own}
    return _build_estimator(rest, {**given, **own}, data_dir, own)


def _build_estimator(
    specification: Any,
    given: Mapping[str, Any],
    data_dir: str | None,
    own: Mapping[str, Any] | None = None,
) -> GradientEstimator:
    check_mapping("estimator", specification, example='{"name": "truncated_bptt"}')
    name = specification.get("name")
    builder = find_builder(estimators.BUILDERS, name, "estimator")
    arguments = {
        key: _with_estimators(value, given, data_dir) for key, value in specification.items()
    }
    nested = any(new is not specification[key] for key, new in arguments.items())
    taken = {key: value for key, value in given.items() if takes(builder, key)}
    if "unroll_length" not in given and needs(builder, "unroll_length"):
        taken["unroll_length"] = _window(given["episode_length"])
    check_free("estimator", specification, taken)
    if idle := sorted(set(own or ()) - set(taken)) if not nested else []:
        raise ValueError(f"The estimator {short(name)} has no argument {', '.join(idle)}.")
    if given["weights"] is not None and "weights" not in taken and not nested:
        raise ValueError(
            f"The estimator {short(name)} does not take weights of the steps; leave the "
            'configuration\'s weights at "all".'
        )
    estimator = call_with(estimators.BUILDERS, arguments, "estimator", **taken)
    check_crossing(f"what the estimator {short(name)} returns", estimator)
    return estimator


def _window(episode_length: Any) -> int:
    """The default of `unroll_length`: an episode, or the shortest of those drawn, if less."""
    lengths = episode_length if isinstance(episode_length, list | tuple) else [episode_length]
    return min([DEFAULTS["unroll_length"], *lengths])


def _with_estimators(value: Any, given: Mapping[str, Any], data_dir: str | None) -> Any:
    """`value` with the estimators that are specified in it."""
    if isinstance(value, list | tuple):
        items = [_with_estimators(inner, given, data_dir) for inner in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items
    if not isinstance(value, Mapping):
        return value
    name = value.get("name")
    if isinstance(name, str) and name in estimators.BUILDERS:
        return _build_inner(value, given, data_dir)
    if isinstance(name, str) and ":" in name and takes(find(name), "optimizer"):
        return _build_inner(value, given, data_dir)
    changed = {key: _with_estimators(inner, given, data_dir) for key, inner in value.items()}
    return changed if any(changed[key] is not value[key] for key in value) else value


def with_own_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration in which parts that its own file has registered are named by that file.

    `l2ljax.tasks.BUILDERS["mine"] = mine` in a configuration's file is not known where another
    script reads what the run has left; `"file.py:mine"` is. A builder that no name finds (a lambda)
    keeps the one it has.
    """
    families: dict[str, Builders] = {
        "task": tasks.BUILDERS,
        "optimizer": {**optimizers.BUILDERS, **optimizers.PREPROCESS},
        "estimator": estimators.BUILDERS,
        "meta_optimizer": META_OPTIMIZERS,
    }
    own = {f: _own_named(config[f], builders) for f, builders in families.items() if f in config}
    return {**config, **own}


def _own_named(value: Any, builders: Builders, depth: int = 0) -> Any:
    if depth > DEEPEST:  # which building refuses, in a sentence
        return value
    if isinstance(value, list | tuple):
        return type(value)(_own_named(inner, builders, depth + 1) for inner in value)
    if not isinstance(value, Mapping):
        return value
    out = {key: _own_named(inner, builders, depth + 1) for key, inner in value.items()}
    for key, there in (("name", builders), ("labels", optimizers.LABELS)):
        name = out.get(key)
        if isinstance(name, str) and name in there:
            out[key] = _own_name(there[name], name)
    return out


def _own_name(builder: Callable[..., Any], name: str) -> str:
    if (getattr(builder, "__module__", None) or "").startswith("l2ljax."):
        return name
    for name_by in (name_of_builder, name_in_file):
        try:
            return name_by(builder)
        except ValueError:  # none such, or its file cannot be run a second time
            continue
    return name
