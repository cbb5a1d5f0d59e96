"""The paper's figures: computes one's numbers into a directory, and draws it from those.

A figure is plain data, as `figure_list` has them: a `kind` and what that needs.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.bundled import load_optimizer, weights_path
from l2ljax.evaluation import BASELINES
from l2ljax.evaluation.report import save_curves, save_panels
from l2ljax.experiments.comparison import evaluate_weights, write_results
from l2ljax.experiments.experiment import build_task, hardware
from l2ljax.paper.architectures import compare_architectures
from l2ljax.paper.figures import (
    save_architectures,
    save_pictures,
    save_preprocessing,
    save_responses,
    save_updates,
)
from l2ljax.paper.gallery import as_uint8, paint
from l2ljax.paper.trajectory import proposed_updates, responses
from l2ljax.storage.workdir import make_directory, write_atomically

Figure = Mapping[str, Any]
NUM_COORDINATES = 4
"""Coordinates whose updates are shown."""


def compute(figure: Figure, directory: Path, *, data_dir: str | None = None) -> None:
    """Writes the numbers of `figure` into `directory`.

    Args:
        figure: with `kind`, a name in `KINDS`, and that kind's fields.
        directory: made if it is not there.
        data_dir: as in `load_dataset`.

    Raises:
        ValueError: for an unknown kind, and whatever the evaluation refuses.
    """
    make_directory(directory)
    _kind(figure)[0](figure, directory, data_dir)


def draw(figure: Figure, directory: Path) -> None:
    """Draws `figure` as PNGs from the numbers in `directory`.

    Others that are there are an earlier run's, of other settings perhaps: they are removed once
    this one's are drawn.

    Raises:
        FileNotFoundError: if the numbers have not been computed.
    """
    make_directory(directory)
    before = {path: path.stat() for path in directory.glob("*.png")}
    try:
        _kind(figure)[1](figure, directory)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{directory} does not hold the figure's numbers yet (no {error.filename}); "
            "make it without --redraw first."
        ) from error
    for path, stat in before.items():
        now = path.stat()
        if (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns):
            path.unlink()


def shrink(figure: Figure, sizes: Mapping[str, int]) -> dict[str, Any]:
    """`figure` at the sizes of a smoke run.

    Example:
        >>> shrink({"kind": "curves", "evaluation": {"num_tasks": 64}}, {"num_tasks": 2})
        {'kind': 'curves', 'evaluation': {'num_tasks': 2}}
    """
    small = dict(figure)
    if "evaluation" in small:
        small["evaluation"] = {**small["evaluation"], **sizes}
        if "learning_rates" in small["evaluation"]:  # so few steps tell nothing of candidates
            rates = small["evaluation"]["learning_rates"].items()
            small["evaluation"]["learning_rates"] = {
                name: rate[0] if isinstance(rate, Sequence) else rate for name, rate in rates
            }
    if "num_steps" in small:
        small["num_steps"] = sizes["num_steps"]
    if "from_step" in small:
        small["from_step"] = sizes["num_tuning_steps"]
    if "at_steps" in small:
        small["at_steps"] = (0, sizes["num_steps"] - 1)
    if "steps" in small:
        small["steps"] = tuple(sorted({1, sizes["num_steps"]}))
    for grid in ("layers", "units"):
        if grid in small:
            small[grid] = small[grid][:2]
    return small


def _kind(figure: Figure) -> tuple[Callable[..., None], Callable[..., None]]:
    if figure["kind"] not in KINDS:
        raise ValueError(
            f"Unknown kind of figure {figure['kind']!r}; there are {', '.join(KINDS)}."
        )
    return KINDS[figure["kind"]]


def _compute_curves(figure: Figure, directory: Path, data_dir: str | None) -> None:
    summary, curves = evaluate_weights(figure["weights"], figure["evaluation"], data_dir=data_dir)
    write_results(directory, summary, curves)


def _draw_curves(figure: Figure, directory: Path) -> None:
    save_curves(directory, figure["title"])
    if "from_step" in figure:
        save_curves(directory, figure["title"], figure["from_step"])


def _compute_architectures(figure: Figure, directory: Path, data_dir: str | None) -> None:
    compare_architectures(
        directory / "architectures.json",
        figure["weights"],
        layers=figure["layers"],
        units=figure["units"],
        baseline=figure["baseline"],
        overrides=figure["evaluation"],
        data_dir=data_dir,
    )


def _draw_architectures(figure: Figure, directory: Path) -> None:
    trained_on = _trained(figure["weights"])["task"]["hidden_sizes"]
    save_architectures(directory / "architectures.json", tuple(trained_on))


def _compute_updates(figure: Figure, directory: Path, data_dir: str | None) -> None:
    config = _trained(figure["weights"])
    optimizer, meta_params, _ = load_optimizer(weights_path(figure["weights"]))
    learned = optimizer.transform(meta_params)
    baselines = {name: BASELINES[name](rate) for name, rate in figure["learning_rates"].items()}
    updates, gradients, others = proposed_updates(
        build_task(config["task"], data_dir),
        learned,
        baselines,
        jax.random.fold_in(jax.random.key(config["seed"]), 4),
        num_steps=figure["num_steps"],
        num_coordinates=NUM_COORDINATES,
    )
    name = config["optimizer"]["name"]
    largest = float(np.quantile(np.abs(gradients), 0.99))
    values = jnp.linspace(-largest, largest, 161)
    found = {
        "num_tasks": 1,
        "num_steps": figure["num_steps"],
        "seed": config["seed"],
        "hardware": hardware(),
        "gradients": _rounded(gradients),
        "updates": {key: _rounded(rows) for key, rows in {name: updates, **others}.items()},
        "at_steps": list(figure["at_steps"]),
        "values": _rounded(values),  # of the first coordinates' next gradient
        "responses": {
            key: _rounded(responses(tx, gradients[:, :2], values, figure["at_steps"]))
            for key, tx in {name: learned, **baselines}.items()
        },
    }
    write_atomically(directory / "updates.json", json.dumps(found) + "\n")


def _rounded(values: jax.Array) -> list[Any]:
    return np.vectorize(lambda x: float(f"{x:.5g}"), otypes=[float])(values).tolist()


def _draw_updates(figure: Figure, directory: Path) -> None:
    found = json.loads((directory / "updates.json").read_text())
    updates, answers = (
        {name: np.asarray(rows) for name, rows in found[key].items()}
        for key in ("updates", "responses")
    )
    save_updates(directory / "updates.png", updates, figure["title"])
    save_responses(directory / "updates_by_gradient.png", found, answers)


def _draw_preprocessing(figure: Figure, directory: Path) -> None:
    del figure
    save_preprocessing(directory / "preprocessing.png")


def _compute_pictures(figure: Figure, directory: Path, data_dir: str | None) -> None:
    config = _trained(figure["weights"])
    optimizer, meta_params, _ = load_optimizer(weights_path(figure["weights"]))
    task = build_task({**config["task"], **figure["task"]}, data_dir)
    rates = figure["learning_rates"].items()
    transforms = {config["optimizer"]["name"]: optimizer.transform(meta_params)}
    transforms |= {name: BASELINES[name](rate) for name, rate in rates}
    key = jax.random.fold_in(jax.random.key(config["seed"]), 5)
    shown: dict[str, Any] = {
        "content": as_uint8(task.data.contents),
        "style": as_uint8(task.data.style),
        "steps": np.asarray(figure["steps"]),
    }
    shown |= {name: paint(task, tx, key, figure["steps"]) for name, tx in transforms.items()}
    np.savez_compressed(directory / "pictures.npz", **shown)


def _draw_pictures(figure: Figure, directory: Path) -> None:
    save_pictures(directory / "pictures.npz", figure["title"])


def _draw_panels(figure: Figure, directory: Path) -> None:
    rows = [[directory.parent / name for name in row] for row in figure["rows"]]
    if missing := [one.name for row in rows for one in row if not (one / "summary.json").exists()]:
        raise ValueError(
            f"{directory.name} is drawn from the numbers of other figures, of which these are not "
            f"made yet in {directory.parent}: {', '.join(missing)}."
        )
    save_panels(directory / "panels.png", rows, figure["titles"], figure["labels"])


def _trained(weights: str) -> dict[str, Any]:
    return load_optimizer(weights_path(weights))[2]["config"]


def _compute_nothing(figure: Figure, directory: Path, data_dir: str | None) -> None:
    del figure, directory, data_dir  # drawn from formulas, or from other figures' numbers


KINDS: dict[str, tuple[Callable[..., None], Callable[..., None]]] = {
    "curves": (_compute_curves, _draw_curves),
    "architectures": (_compute_architectures, _draw_architectures),
    "updates": (_compute_updates, _draw_updates),
    "preprocessing": (_compute_nothing, _draw_preprocessing),
    "panels": (_compute_nothing, _draw_panels),
    "pictures": (_compute_pictures, _draw_pictures),
}
"""Kind -> how to compute it, and how to draw it from what was computed."""
