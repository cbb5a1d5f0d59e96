"""The door of an adaptation: everything is checked before anything is computed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import optax

from l2ljax.base import Key, Params, Task
from l2ljax.checks import check_key, check_number, check_positive_int, check_transform, short
from l2ljax.estimators.weights import step_weights
from l2ljax.evaluation import BASELINES
from l2ljax.evaluation.statistics import LEAST
from l2ljax.evaluation.tuning import MakeTransform
from l2ljax.experiments.adaptation.annealing import annealed_adam
from l2ljax.experiments.adaptation.choosing import (
    Sizes,
    choose_estimator,
    choose_num_tasks,
    described,
)
from l2ljax.experiments.adaptation.given import Start, check_fits, find_start, find_task
from l2ljax.experiments.adaptation.outcome import Adaptation, Folder
from l2ljax.experiments.adaptation.pace import Clock
from l2ljax.experiments.adaptation.procedure import Parts, carry_out, key_data
from l2ljax.experiments.fields import WEIGHTS
from l2ljax.experiments.machine import check_memory, hardware
from l2ljax.training.validation import Validation

CLIP_NORM = 1.0


def adapt(
    weights: Any,
    task: Any,
    *,
    minutes: float,
    key: Key | None = None,
    num_steps: int = 100,
    num_tasks: int | None = None,
    num_validation_tasks: int = 32,
    num_eval_tasks: int = 64,
    num_meta_updates: int | None = None,
    learning_rate: float = 1e-3,
    meta_optimizer: optax.GradientTransformation | None = None,
    estimator: Any = None,
    weights_of_steps: str = "all",
    labels: Any = None,
    baselines: Mapping[str, MakeTransform] = BASELINES,
    workdir: str | Path | None = None,
    command: str | None = None,
    progress: bool = False,
    tell: Callable[[str], Any] = lambda sentence: None,
) -> Adaptation:
    """Meta-trains a learned optimizer on a task of one's own, and says whether that was worth it.

    It takes `minutes` at most, compilation, tuned baselines and the final comparison included. The
    weights to start from are a candidate throughout: what is returned is never worse than they are
    on the validation batch. In the main thread, Ctrl-C and SIGTERM end meta-training early, with
    the best weights so far; they are compared all the same.

    Args:
        weights: a name in `l2ljax.pretrained_names()`, a `.safetensors` file of `save_optimizer`,
            or a pair `(optimizer, meta_params)`.
        task: an `l2ljax.Task`, or `"file.py"`, `"file.py:attribute"` or `"module:attribute"` of one
            or of a function without arguments that returns one.
        minutes: the budget.
        key: randomness of it all; default: `jax.random.key(0)`. How many meta-updates fit into the
            time is the machine's: with `num_meta_updates` that fit the same key gives the same
            weights.
        num_steps: inner steps of an episode, in training and in the comparison.
        num_tasks: optimizees a meta-update; default: 16 small ones, fewer of large ones.
        num_validation_tasks: optimizees that choose the best meta-parameters.
        num_eval_tasks: fresh optimizees of the comparison, at least 5.
        num_meta_updates: so many and no more; default: what fits into the time.
        learning_rate: of Adam, clipped to a norm of 1, with a cosine to 0.
        meta_optimizer: instead of that Adam.
        estimator: of the meta-gradient, or its specification, such as `{"name": "nres",
            "num_perturbations": 8, "sigma": 0.03}`. Default: `truncated_bptt` over whole episodes
            where coordinates are independent, else `pes`.
        weights_of_steps: how the meta-loss and the validation weigh the steps: "all" alike,
            "rising" or "last".
        labels: of a partition such as "lstm-cifar10", instead of its own; as in `pretrained`.
        baselines: name -> function of the learning rate. Those that no time is left for are named
            in the result; one is always tuned.
        workdir: a directory for `adapted.safetensors` (the weights with a card of how they were
            made and how they did), `start.safetensors`, `evaluation/` and the run's records.
        command: what to type to repeat it, for the card.
        progress: show a progress bar of the meta-updates.
        tell: called with a sentence at each stage, e.g. `print`.

    Returns:
        an `Adaptation`; `optimizer.transform(meta_params)` of it is the optimizer to use.

    Raises:
        ValueError: for what does not fit: names that are not known, weights for other parameters, a
            task that cannot be run, counts and minutes out of range, a workdir that holds something
            already; and for minutes that are too few for this task and machine, telling how many
            would do.
        FileNotFoundError: if there is no such weights file.
        TypeError: for what is no task, key, estimator or weights.

    Example:
        >>> from l2ljax.optimizers import hyperparameters, log
        >>> from l2ljax.tasks import quadratic
        >>> rule = hyperparameters(optax.sgd, {"learning_rate": log(1e-2)})
        >>> result = adapt(
        ...     (rule, rule.init(jax.random.key(0))), quadratic(dim=2), minutes=5, num_steps=5,
        ...     num_meta_updates=2, num_eval_tasks=5, baselines={"sgd": optax.sgd},
        ...     estimator={"name": "truncated_bptt"},
        ... )
        >>> sorted(result.curves), result.num_meta_updates
        (['adapted', 'sgd', 'start'], 2)
    """
    clock = _started(minutes, num_meta_updates, learning_rate)
    _check_baselines(baselines)
    if meta_optimizer is not None:
        check_transform("meta_optimizer", meta_optimizer)
    key = jax.random.key(0) if key is None else key
    check_key("key", key)
    start = find_start(weights, labels)
    found, place = find_task(task)
    params = check_fits(found, start)
    sizes = _sizes(params, num_steps, num_tasks, num_validation_tasks, num_eval_tasks)
    chosen = choose_estimator(estimator, found, start.optimizer, params, sizes, weights_of_steps)
    check_memory(start.optimizer, chosen)
    train_key, validation_key, report_key = jax.random.split(key, 3)
    settings = {
        **sizes._asdict(),
        "num_meta_updates": num_meta_updates,
        "learning_rate": learning_rate if meta_optimizer is None else None,
        "weights_of_steps": weights_of_steps,
        "estimator": described(chosen),
        "labels": labels if isinstance(labels, str | None) else short(labels),
        "baselines": list(baselines),
    }
    fixed = None if meta_optimizer is None else lambda num_meta_updates: meta_optimizer
    parts = Parts(
        task=found,
        place=place,
        start=start,
        estimator=chosen,
        validation=_validation(found, start, sizes, weights_of_steps, validation_key),
        meta_optimizer=fixed or annealed_adam(learning_rate, CLIP_NORM),
        sizes=sizes,
        baselines=baselines,
        keys=(train_key, report_key),
        about=_about(start, place, command, minutes, key) | {"settings": settings},
    )
    return carry_out(parts, clock, Folder(workdir, start), num_meta_updates, progress, tell)


def _started(minutes: Any, num_meta_updates: Any, learning_rate: Any) -> Clock:
    check_number("minutes", minutes, above=0)
    check_number("learning_rate", learning_rate, above=0)
    if num_meta_updates is not None:
        check_positive_int("num_meta_updates", num_meta_updates)
    return Clock(minutes)


def _sizes(
    params: Params, num_steps: Any, num_tasks: Any, num_validation_tasks: Any, num_eval_tasks: Any
) -> Sizes:
    return Sizes(
        check_positive_int("num_steps", num_steps),
        choose_num_tasks(num_tasks, params),
        check_positive_int("num_validation_tasks", num_validation_tasks),
        check_positive_int("num_eval_tasks", num_eval_tasks, minimum=LEAST),
    )


def _validation(
    task: Task, start: Start, sizes: Sizes, weights_of_steps: str, key: Key
) -> Validation:
    return Validation(
        task=task,
        key=key,
        optimizer=start.optimizer,
        num_tasks=sizes.num_validation_tasks,
        num_steps=sizes.num_steps,
        weights=step_weights(WEIGHTS[weights_of_steps], sizes.num_steps),
    )


def _about(start: Start, place: str, command: str | None, minutes: float, key: Key) -> dict:
    """What the card says before anything is known."""
    return {
        "command": command or f"l2ljax.adapt({start.name!r}, {place}, minutes={minutes})",
        "start": start.name,
        "task": place,
        "minutes": minutes,
        "key": key_data(key),
        "hardware": hardware(),
    }


def _check_baselines(baselines: Any) -> None:
    names = list(baselines) if isinstance(baselines, Mapping) else []
    if not names or not all(callable(baselines[name]) for name in names):
        raise ValueError(
            "baselines must be a dict of at least one name -> function of the learning rate, such "
            f'as {{"adam": optax.adam}}, got {short(baselines)}.'
        )
    if taken := [name for name in ("start", "adapted") if name in names]:
        raise ValueError(f"A baseline has the name {taken[0]!r}, which is taken; rename it.")
