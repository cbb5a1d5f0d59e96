"""From a plain configuration to a run: builds the parts and meta-trains in a directory.

Configurations are nested dicts of JSON values; `configs/` makes them, `FIELDS` lists what one must
have. Parts that have a choice are specifications: a `name` and the builder's arguments.
"""

import dataclasses
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh

from l2ljax import estimators, optimizers, tasks
from l2ljax.base import GradientEstimator, LearnedOptimizer, Task
from l2ljax.bundled import load_meta_params, save_optimizer
from l2ljax.checks import (
    check_choice,
    check_number,
    check_positive_int,
    short,
    shorten,
)
from l2ljax.experiments.configuration import check_values
from l2ljax.parallel import first_process_first, replicate, task_mesh
from l2ljax.specification import call_with, check_arguments, check_mapping
from l2ljax.storage import checkpoint
from l2ljax.storage.workdir import claim
from l2ljax.tasks.data import Images, load_dataset
from l2ljax.training.faults import Limits, check_limits
from l2ljax.training.loop import meta_train
from l2ljax.training.result import MetaTrainResult
from l2ljax.training.validation import Validation

FIELDS = {
    "seed": "of everything random",
    "num_meta_updates": "meta-updates in all",
    "num_tasks": "optimizees a meta-update",
    "episode_length": "inner steps an episode [T]",
    "unroll_length": "inner steps a window",
    "task": "specification of what to optimize",
    "optimizer": "specification of what learns to",
    "estimator": "specification of the meta-gradient",
    "weights": '"all", "rising" or "last": how the meta-loss weighs the steps',
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
}


class Experiment(NamedTuple):
    """What a configuration describes."""

    optimizer: LearnedOptimizer
    estimator: GradientEstimator
    meta_optimizer: optax.GradientTransformation
    validation: Validation


def adam(
    num_meta_updates: int,
    learning_rate: float,
    clip_norm: float,
    schedule: str = "cosine",
    restarts: Sequence[int] = (),
) -> optax.GradientTransformation:
    """Adam behind clipping by global norm.

    Args:
        num_meta_updates: length of the schedule.
        learning_rate: at the start.
        clip_norm: largest norm of the meta-gradient.
        schedule: "cosine" (to 0 at the end) or "constant".
        restarts: meta-updates at which the cosine has come to 0 and starts over
            (Loshchilov & Hutter 2017), in ascending order.

    Raises:
        ValueError: for an unknown schedule, or restarts that are not ascending and inside the run.
    """
    check_positive_int("num_meta_updates", num_meta_updates)
    check_number("learning_rate", learning_rate, above=0)
    check_number("clip_norm", clip_norm, above=0)
    check_choice("schedule", schedule, ["cosine", "constant"])
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
    return optax.chain(optax.clip_by_global_norm(clip_norm), optax.adam(rate))


META_OPTIMIZERS = {"adam": adam}


def build(
    config: Mapping[str, Any], data_dir: str | None = None, num_devices: int | None = 1
) -> Experiment:
    """The parts of the experiment that `config` describes.

    Args:
        config: the configuration.
        data_dir: as in `load_dataset`.
        num_devices: to spread the tasks over; those beyond a divisor of `num_tasks` share the
            coordinates of each. Default: as `task_mesh` chooses.

    Raises:
        ValueError: for unknown or missing fields, names and arguments, in a sentence that lists
            those there are; and whatever the builders refuse.
    """
    check_fields(config)
    task = build_task(config["task"], data_dir)
    optimizer = optimizers.build(config["optimizer"])
    weights = WEIGHTS[config["weights"]]
    mesh = _mesh(config["num_tasks"], num_devices)
    estimator = call_with(
        estimators.BUILDERS,
        config["estimator"],
        "estimator",
        task=task,
        optimizer=optimizer,
        num_tasks=config["num_tasks"],
        episode_length=config["episode_length"],
        unroll_length=config["unroll_length"],
        weights=weights,
        **({"mesh": mesh} if mesh else {}),
    )
    check_memory(optimizer, estimator)
    meta_optimizer = call_with(
        META_OPTIMIZERS,
        config["meta_optimizer"],
        "meta_optimizer",
        num_meta_updates=config["num_meta_updates"],
    )
    num_validation_tasks = config["validation"]["num_tasks"]
    validation_mesh = None  # then each device scores them all
    if mesh is not None and num_validation_tasks % mesh.size == 0:
        validation_mesh = task_mesh(num_validation_tasks, mesh.size)
    validation = Validation(
        task=dataclasses.replace(task, data=replicate(task.data, mesh)),
        optimizer=optimizer,
        key=jax.random.fold_in(jax.random.key(config["seed"]), 2),
        num_tasks=num_validation_tasks,
        num_steps=config["episode_length"],
        weights=getattr(estimator, "weights", None),
        mesh=validation_mesh,
    )
    return Experiment(optimizer, estimator, meta_optimizer, validation)


def _mesh(num_tasks: int, num_devices: int | None) -> Mesh | None:
    """As `task_mesh`; where there are more devices than tasks divide, they share coordinates."""
    if num_devices is None:
        return task_mesh(num_tasks)
    several = jax.process_count() > 1
    share = 1 if several else num_devices // math.gcd(num_devices, num_tasks)
    return task_mesh(num_tasks, num_devices, coordinate_devices=share)


def build_task(specification: Mapping[str, Any], data_dir: str | None) -> Task:
    """A task from its specification; `dataset` is `load_dataset`'s arguments as a dict."""
    check_mapping("task", specification, example='{"name": "quadratic"}')
    arguments = dict(specification)
    if "dataset" in arguments:
        arguments["dataset"] = load_images("dataset", arguments["dataset"], data_dir)
    return call_with(tasks.BUILDERS, arguments, "task")


def load_images(what: str, arguments: Any, data_dir: str | None) -> Images:
    """`load_dataset` of arguments that a configuration holds in its field `what`."""
    check_mapping(what, arguments, example='{"name": "mnist", "split": "train"}')
    arguments = {**arguments, "data_dir": data_dir}
    check_arguments(what, load_dataset, arguments)
    return load_dataset(**arguments)


def run(
    config: Mapping[str, Any],
    workdir: str | Path,
    *,
    command: str,
    data_dir: str | None = None,
    num_devices: int | None = None,
    progress: bool = True,
) -> MetaTrainResult | None:
    """Meta-trains in `workdir`, resuming where an earlier run stopped.

    A finished run leaves `meta_params.safetensors` there.

    Args:
        config: the configuration.
        workdir: its directory.
        command: what to type to repeat it; goes into the weights' metadata.
        data_dir: where TFDS finds its data sets; default: `TFDS_DATA_DIR`, or TFDS's own.
        num_devices: as in `build`. A run may be resumed on another number.
        progress: show a progress bar.

    Returns:
        the result, or `None` if the run was finished before.

    Raises:
        ValueError: for a bad configuration, or a workdir that holds another one's run.
        DivergenceError: see `meta_train`.
    """
    workdir = Path(workdir)
    optional = {name: DEFAULTS[name] for name in DEFAULTS if name in OPTIONAL}
    weights = workdir / "meta_params.safetensors"
    if (workdir / "config.json").exists() and weights.exists():
        check_fields(config)
        claim(workdir, config, optional)
        return None
    experiment = build(config, data_dir, num_devices)
    init_key, run_key = jax.random.split(jax.random.fold_in(jax.random.key(config["seed"]), 1))
    if checkpoint.steps(workdir / "checkpoints"):  # then it needs no weights to start from
        meta_params = jax.eval_shape(experiment.optimizer.init, init_key)
    else:
        meta_params = experiment.optimizer.init(init_key)
        if config.get("initial") is not None:
            meta_params = load_meta_params(config["initial"], like=meta_params)
    first_process_first(lambda: claim(workdir, config, optional))
    result = meta_train(
        experiment.estimator,
        experiment.meta_optimizer,
        meta_params,
        run_key,
        num_meta_updates=config["num_meta_updates"],
        validation=experiment.validation,
        validate_every=config["validation"]["every"],
        **limits(config)._asdict(),
        workdir=workdir,
        checkpoint_every=config["checkpoint_every"],
        progress=progress,
    )
    if not result.interrupted and jax.process_index() == 0:
        trained = {
            "command": command,
            "config": config,
            "seconds": round(result.seconds, 1),
            "hardware": hardware(),
            "validation_loss": result.best_score,
            "best_update": result.best_update,
        }
        save_optimizer(weights, config["optimizer"], result.meta_params, trained)
    return result


def check_fields(config: Mapping[str, Any]) -> None:
    """Refuses a configuration with unknown or missing fields, or impossible values, naming them."""
    check_mapping("The configuration", config, example='{"seed": 0, ...}')
    unknown = sorted(set(config) - set(FIELDS))
    missing = sorted(set(FIELDS) - OPTIONAL - set(config))
    if unknown or missing:
        problems = [f"unknown: {shorten(', '.join(unknown), 200)}"] * bool(unknown)
        problems += [f"missing: {', '.join(missing)}"] * bool(missing)
        raise ValueError(
            f"The configuration has wrong fields ({'; '.join(problems)}); "
            f"it must have {', '.join(FIELDS)}."
        )
    check_values(config)
    check_choice("weights", config["weights"], list(WEIGHTS))
    limits(config)


def limits(config: Mapping[str, Any]) -> Limits:
    """How many meta-updates that are not finite the run takes, as `meta_train` has them."""
    return check_limits(*(config.get(name, DEFAULTS[name]) for name in Limits._fields))


def check_memory(optimizer: LearnedOptimizer, estimator: GradientEstimator) -> None:
    """Refuses running optimizees that alone are larger than the memory of all devices.

    Raises:
        ValueError: with both sizes.
    """
    key = jax.random.key(0)
    try:
        state = jax.eval_shape(lambda key: estimator.init(key, optimizer.init(key)), key)
        needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    except OverflowError:  # a shape that is beyond what JAX counts
        needed = math.inf
    device = jax.local_devices()[0]
    there = (device.memory_stats() or {}).get("bytes_limit")
    there = there or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there * jax.device_count():
        raise ValueError(
            f"num_tasks running optimizees of this task, with the optimizer's state, need "
            f"{needed:.3g} bytes, more than the {there:.3g} of a device; lower num_tasks or a size."
        )


def hardware() -> str:
    """Device kind and count, as results name them, e.g. "cpu x 1 (2 cores)"."""
    device = jax.devices()[0]
    cores = f" ({os.cpu_count()} cores)" if device.platform == "cpu" else ""
    return f"{device.device_kind} x {jax.device_count()}{cores}"
