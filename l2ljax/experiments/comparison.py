"""A trained optimizer beside tuned baselines: `summary.json` and `curves.csv` from its weights.

The weights' own metadata say what they were trained on; an evaluation may differ from that in any
argument of the task, in the number of steps and in the optimizees.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import optax

from l2ljax.base import Key
from l2ljax.bundled import load_optimizer, weights_path
from l2ljax.checks import check_number, check_positive_int
from l2ljax.evaluation import BASELINES, Curve, Stage, compare, differences, summarise
from l2ljax.evaluation.stages import Around
from l2ljax.evaluation.statistics import columns as curve_columns
from l2ljax.evaluation.tuning import MakeTransform
from l2ljax.experiments.compared import check_beside, own_name
from l2ljax.experiments.configuration import check_json, check_part
from l2ljax.experiments.fields import check_fields, completed
from l2ljax.experiments.kept import Kept
from l2ljax.experiments.machine import hardware
from l2ljax.experiments.parts import build_task, load_images
from l2ljax.storage.workdir import make_directory, read_config, write_atomically
from l2ljax.tasks import ACCURACY, cluster_of


def evaluate_run(
    workdir: str | Path,
    overrides: Mapping[str, Any],
    *,
    data_dir: str | None = None,
    on_done: Callable[[str], None] = lambda name: None,
    keep: str | Path | None = None,
    tell: Callable[[Stage, str], None] = lambda stage, event: None,
) -> tuple[dict[str, Any], dict[str, Curve]]:
    """Evaluates a finished run beside tuned baselines.

    Args:
        workdir: of the run.
        overrides: entries that replace those of the configuration's `evaluation`, see
            `l2ljax.experiments.configuration.EVALUATION`.
        data_dir: as in `load_dataset`.
        on_done, keep, tell: as in `evaluate_weights`.

    Returns:
        the content of `summary.json`, and the curves it summarises.

    Raises:
        FileNotFoundError: if there is no finished run in `workdir`.

    Example:
        >>> summary, curves = evaluate_run("runs/demo", {"num_tasks": 64})  # doctest: +SKIP
    """
    config = read_config(Path(workdir))
    path = Path(workdir) / "meta_params.safetensors"
    check_fields(config)
    if not path.exists():
        raise FileNotFoundError(
            f"The run in {workdir} is not finished: there is no {path.name}; "
            "start its training again, it resumes."
        )
    return evaluate_weights(
        path, overrides, data_dir=data_dir, on_done=on_done, keep=keep, tell=tell
    )


def evaluate_weights(
    weights: str | Path,
    overrides: Mapping[str, Any],
    *,
    baselines: Mapping[str, MakeTransform] = BASELINES,
    data_dir: str | None = None,
    on_done: Callable[[str], None] = lambda name: None,
    keep: str | Path | None = None,
    tell: Callable[[Stage, str], None] = lambda stage, event: None,
) -> tuple[dict[str, Any], dict[str, Curve]]:
    """Evaluates a bundled optimizer, or one in a file, beside tuned baselines.

    Args:
        weights: a name in `pretrained_names()`, or a `.safetensors` file of a run.
        overrides: entries that replace those of its configuration's `evaluation`, see
            `l2ljax.experiments.configuration.EVALUATION`.
        baselines: name -> function of the learning rate.
        data_dir: as in `load_dataset`.
        on_done: called with each optimizer's name as it is finished.
        keep: folder that holds what is finished (a baseline's tuned rate, an optimizer's results)
            until all is: the next call takes from there what is of the very same work. Whoever has
            the results removes it. Default: nothing is kept.
        tell: called with each `Stage` and "begins", then "done", or with "kept" alone.

    Returns:
        the content of `summary.json`, and the curves it summarises.

    Raises:
        ValueError: for weights that do not say what they were trained on, unknown settings, and
            names in `beside` that the run's own optimizer or a baseline has; before anything is
            computed.

    Example:
        >>> summary, curves = evaluate_weights(
        ...     "lstm-quadratic", {"num_tasks": 64, "num_tuning_tasks": 64}
        ... )  # doctest: +SKIP
    """
    path = weights_path(weights)
    optimizer, meta_params, metadata = load_optimizer(path)
    if "config" not in metadata:
        raise ValueError(f"{path} does not say what it was trained on; evaluate a run's weights.")
    check_fields(metadata["config"])
    config = completed(metadata["config"])
    first = own_name(config["optimizer"]["name"], baselines)
    settings = _settings(config["evaluation"], overrides)
    check_json("evaluation", settings)
    check_part("evaluation", settings)
    beside = settings.get("beside", {})
    check_beside(beside, first, baselines)
    seed = check_positive_int("seed", settings.get("seed", config["seed"]), minimum=0)
    specification = {**config["task"], **settings.get("task", {})}
    task = build_task(specification, data_dir)
    learned: dict[str, Any] = {first: (optimizer, meta_params)}
    learned |= {name: load_optimizer(weights_path(source))[:2] for name, source in beside.items()}
    learned |= _scaled(learned, settings.get("gradient_scales", {}))
    key = jax.random.fold_in(jax.random.key(seed), 3)
    tuned_at = settings.get("num_tuning_steps", settings["num_steps"])
    curves = compare(
        task,
        learned,
        key,
        num_tasks=settings["num_tasks"],
        num_steps=settings["num_steps"],
        num_tuning_tasks=settings["num_tuning_tasks"],
        num_tuning_steps=tuned_at,
        baselines=baselines,
        learning_rates=settings.get("learning_rates"),
        accuracy=_accuracy(specification["name"], settings.get("unseen"), data_dir),
        final_batches=settings.get("final_batches"),
        cluster=cluster_of(task),
        at_once=settings.get("at_once", 64),
        on_done=on_done,
        around=_around(_kept(keep, key, config, settings), tell),
    )
    summary = {
        "task": specification["name"],
        "task_arguments": json.loads(json.dumps(specification)),
        "num_tasks": settings["num_tasks"],
        "num_steps": settings["num_steps"],
        "num_tuning_steps": tuned_at,
        "seed": seed,
        "hardware": hardware(),
        "optimizers": {name: summarise(curve, tuned_at) for name, curve in curves.items()},
        "final_batches": settings.get("final_batches"),
        "above": {"of": first, "losses": differences(curves, first)},
    }
    return summary, curves


def _settings(configured: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Of the evaluation; what is not named of the task's arguments stays, such as a split."""
    settings = {**configured, **overrides}
    if isinstance(overrides.get("task"), Mapping):
        settings["task"] = {**configured.get("task", {}), **overrides["task"]}
    return settings


def _kept(
    folder: str | Path | None, key: Key, config: Mapping[str, Any], settings: Mapping[str, Any]
) -> Kept | None:
    """What was finished; its results are also of what the task is called and of `unseen`."""
    if folder is None:
        return None
    return Kept(folder, key, {"name": config["task"]["name"], "unseen": settings.get("unseen")})


def _around(kept: Kept | None, tell: Callable[[Stage, str], None]) -> Around:
    """Tells of each stage, and computes it where it is not kept."""

    def around(stage: Stage, compute: Callable[[], Any]) -> Any:
        found = None if kept is None else kept.find(stage)
        if found is not None:
            tell(stage, "kept")
            return found
        tell(stage, "begins")
        found = compute()
        if kept is not None:
            kept.keep(stage, found)
        tell(stage, "done")
        return found

    return around


def _scaled(
    learned: Mapping[str, Any], scales: Mapping[str, float]
) -> dict[str, optax.GradientTransformation]:
    """Those in `scales`, with their gradients multiplied; the updates are as they come."""
    if unknown := sorted(set(scales) - set(learned)):
        raise ValueError(
            f"gradient_scales names {unknown[0]!r}, which is not evaluated as a learned optimizer; "
            f"there are {', '.join(learned)}."
        )
    for name, scale in scales.items():
        check_number(f"gradient_scales.{name}", scale, above=0.0)
    return {
        name: optax.chain(optax.scale(by), learned[name][0].transform(learned[name][1]))
        for name, by in scales.items()
    }


def _accuracy(task: str, unseen: Mapping[str, Any] | None, data_dir: str | None) -> Any:
    if unseen is None:
        return None
    if task not in ACCURACY:
        raise ValueError(
            f"unseen asks for an accuracy, which the task {task!r} does not have; "
            f"these have one: {', '.join(ACCURACY)}."
        )
    images = load_images("unseen", unseen, data_dir)

    @jax.jit
    def each(params, images):
        return jax.lax.map(lambda p: ACCURACY[task](p, *images), params)

    return lambda params: each(params, images)


def write_results(
    directory: str | Path, summary: Mapping[str, Any], curves: Mapping[str, Curve]
) -> None:
    """Writes `summary.json` and `curves.csv`: steps, each optimizer's mean, 95 % CI and median.

    Args:
        directory: where; made if it is not there.
        summary: JSON values by name, as `evaluate_weights` returns them.
        curves: optimizer -> its results, all of as many steps.

    Raises:
        OSError: if a file cannot be written.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> directory = tempfile.mkdtemp()
        >>> losses = np.array([[4.0, 1.0], [8.0, 3.0]])
        >>> write_results(directory, {"num_tasks": 2}, {"adam": Curve(0.1, losses)})
        >>> (Path(directory) / "curves.csv").read_text().splitlines()[1:]
        ['0,6,nan,nan,6', '1,2,nan,nan,2']
    """
    directory = Path(directory)
    make_directory(directory)
    columns = curve_columns(curves)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")  # quotes a name with a comma
    lines.writerow(["step", *columns])
    for step, row in enumerate(zip(*columns.values(), strict=True)):
        lines.writerow([step, *(f"{value:.7g}" for value in row)])
    write_atomically(directory / "curves.csv", text.getvalue())
    write_atomically(directory / "summary.json", json.dumps(summary, indent=2) + "\n")
