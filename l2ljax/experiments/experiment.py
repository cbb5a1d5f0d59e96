"""From a plain configuration to a run: builds the parts and meta-trains in a directory.

Configurations are nested dicts of JSON values; `configs/` makes them, `FIELDS` lists what one must
have. Parts that have a choice are specifications: a `name` and the builder's arguments.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from l2ljax import estimators, optimizers
from l2ljax.base import GradientEstimator, LearnedOptimizer, Task
from l2ljax.bundled import load_meta_params, save_optimizer
from l2ljax.checks import short
from l2ljax.experiments.fields import (
    DEFAULTS,
    FIELDS,
    OPTIONAL,
    WEIGHTS,
    check_fields,
    completed,
    defaults_of,
    limits,
)
from l2ljax.experiments.machine import check_memory, hardware, versions
from l2ljax.experiments.meta_optimizers import (
    META_OPTIMIZERS,
    adam,
    build_meta_optimizer,
    takes,
)
from l2ljax.experiments.parts import (
    build_estimator,
    build_task,
    load_images,
    step_weights,
    with_own_names,
)
from l2ljax.parallel import first_process_first, replicate, task_mesh
from l2ljax.specification import check_mapping, find_builder
from l2ljax.storage import checkpoint
from l2ljax.storage.workdir import claim
from l2ljax.training.loop import meta_train
from l2ljax.training.result import MetaTrainResult
from l2ljax.training.validation import Validation

__all__ = [
    "DEFAULTS",
    "FIELDS",
    "META_OPTIMIZERS",
    "OPTIONAL",
    "WEIGHTS",
    "Experiment",
    "adam",
    "build",
    "build_task",
    "check_fields",
    "check_memory",
    "completed",
    "hardware",
    "limits",
    "load_images",
    "run",
]


class Experiment(NamedTuple):
    """What a configuration describes.

    Attributes:
        optimizer: what is meta-trained.
        estimator: of its meta-gradient on the task.
        meta_optimizer: what trains the meta-parameters, an Optax transformation.
        validation: what selects the best of them.

    Example:
        >>> from l2ljax.command import bundled_config
        >>> experiment = build(bundled_config("demo").to_dict())
        >>> experiment.validation.optimizer is experiment.optimizer
        True
    """

    optimizer: LearnedOptimizer
    estimator: GradientEstimator
    meta_optimizer: optax.GradientTransformation
    validation: Validation


def build(
    config: Mapping[str, Any], data_dir: str | None = None, num_devices: int | None = 1
) -> Experiment:
    """The parts of the experiment that `config` describes.

    Args:
        config: the configuration.
        data_dir: as in `load_dataset`.
        num_devices: to spread the tasks over; those beyond a divisor of `num_tasks` share the
            coordinates of each. Default: as `task_mesh` chooses.

    Returns:
        the learned optimizer, the estimator, the meta-optimizer and the validation.

    Raises:
        ValueError: for unknown or missing fields, names and arguments, in a sentence that lists
            those there are; and whatever the builders refuse.

    Example:
        >>> from l2ljax.command import bundled_config
        >>> build(bundled_config("demo").to_dict()).estimator.num_tasks
        128
    """
    check_fields(config)
    config = completed(config)
    task = build_task(config["task"], data_dir)
    optimizer = optimizers.build(config["optimizer"])
    mesh = _mesh(config, num_devices)
    estimator = build_estimator(config, task, optimizer, mesh, data_dir)
    check_memory(optimizer, estimator)
    meta_optimizer = build_meta_optimizer(config["meta_optimizer"], config["num_meta_updates"])
    validation = _validation(config, task, optimizer, mesh)
    return Experiment(optimizer, estimator, meta_optimizer, validation)


def _validation(
    config: Mapping[str, Any],
    task: Task,
    optimizer: LearnedOptimizer,
    mesh: Mesh | None,
) -> Validation:
    num_tasks, num_steps = config["validation"]["num_tasks"], config["episode_length"]
    validation_mesh = None  # then each device scores them all
    if mesh is not None and num_tasks % mesh.size == 0:
        validation_mesh = task_mesh(num_tasks, mesh.size)
    weigh = step_weights(config) or np.ones_like
    weights = tuple(float(weight) for weight in weigh(np.arange(1, num_steps + 1)))
    return Validation(
        task=dataclasses.replace(task, data=replicate(task.data, mesh)),
        optimizer=optimizer,
        key=jax.random.fold_in(jax.random.key(config["seed"]), 2),
        num_tasks=num_tasks,
        num_steps=num_steps,
        weights=weights,
        mesh=validation_mesh,
    )


def _mesh(config: Mapping[str, Any], num_devices: int | None) -> Mesh | None:
    """As `task_mesh`; where there are more devices than tasks divide, they share coordinates."""
    num_tasks, specification = config["num_tasks"], config["estimator"]
    check_mapping("estimator", specification, example='{"name": "truncated_bptt"}')
    builder = find_builder(estimators.BUILDERS, specification.get("name"), "estimator")
    if not takes(builder, "mesh"):
        if num_devices is not None and num_devices > 1:
            raise ValueError(
                f"The estimator {short(specification['name'])} takes no mesh of devices; train on "
                f"one, got num_devices={num_devices}."
            )
        return None
    if num_devices is None:
        return task_mesh(num_tasks)
    several = jax.process_count() > 1
    share = 1 if several else num_devices // math.gcd(num_devices, num_tasks)
    return task_mesh(num_tasks, num_devices, coordinate_devices=share)


def run(
    config: Mapping[str, Any],
    workdir: str | Path,
    *,
    command: str,
    data_dir: str | None = None,
    num_devices: int | None = None,
    progress: bool = True,
    begin: Callable[[], None] = lambda: None,
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
        begin: called when all has been checked and training begins.

    Returns:
        the result, or `None` if the run was finished before.

    Raises:
        ValueError: for a bad configuration, or a workdir that holds another one's run.
        DivergenceError: see `meta_train`.

    Example:
        >>> from l2ljax.command import bundled_config
        >>> config = bundled_config("demo").to_dict()
        >>> run(config, "runs/demo", command="from Python")  # doctest: +SKIP
    """
    check_fields(config)
    workdir, config = Path(workdir), with_own_names(completed(config))
    defaults = defaults_of(config)
    weights = workdir / "meta_params.safetensors"
    if (workdir / "config.json").exists() and weights.exists():
        claim(workdir, config, defaults)
        return None
    experiment = build(config, data_dir, num_devices)
    init_key, run_key = jax.random.split(jax.random.fold_in(jax.random.key(config["seed"]), 1))
    if checkpoint.steps(workdir / "checkpoints"):  # then it needs no weights to start from
        meta_params = jax.eval_shape(experiment.optimizer.init, init_key)
    else:
        meta_params = experiment.optimizer.init(init_key)
        if config.get("initial") is not None:
            meta_params = load_meta_params(config["initial"], like=meta_params)
    first_process_first(lambda: claim(workdir, config, defaults))
    begin()
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
            "versions": versions(),
            "validation_loss": result.best_score,
            "best_update": result.best_update,
        }
        save_optimizer(weights, config["optimizer"], result.meta_params, trained)
    return result
