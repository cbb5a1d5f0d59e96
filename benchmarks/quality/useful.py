"""Recipes that are to be useful soon, their meta-training by the clock, and the judge.

A run's clock is that of a user who waits: building the task, compiling, meta-updates and
validations. What validation has chosen is copied aside each time that it chooses anew; judging it
comes after the clock has stopped.
"""

import copy
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from useful_recipes import JUDGE, RECIPES, SIZES

from l2ljax import optimizers
from l2ljax.base import MetaParams
from l2ljax.base.words import named_leaves
from l2ljax.bundled import load_meta_params
from l2ljax.command import bundled_config
from l2ljax.evaluation import Curve, compare, differences
from l2ljax.evaluation.tuning import BASELINES, MakeTransform
from l2ljax.experiments import experiment
from l2ljax.experiments.parts import build_task
from l2ljax.training.step import init_state, meta_step, validate


class Snapshot(NamedTuple):
    """What validation had chosen `seconds` after the start.

    Attributes:
        seconds: since the start.
        update: meta-updates made.
        score: validation loss of what was chosen, or of these meta-parameters.
        meta_params: the chosen ones.
    """

    seconds: float
    update: int
    score: float
    meta_params: MetaParams


def slug(text: str) -> str:
    """As part of a file's name.

    Example:
        >>> slug("windows of 20, then 100")
        'windows-of-20-then-100'
    """
    return "-".join("".join(c if c.isalnum() or c == "." else " " for c in text).split())


def config_of(work: str, recipe: str, seed: int) -> dict[str, Any]:
    """The configuration of a run, plain data."""
    name, fields = RECIPES[work][recipe]
    config = bundled_config(name).to_dict() | {"seed": seed}
    for field, value in fields.items():
        *outer, last = field.split(".")
        node = config
        for part in outer:
            node = node[part]
        node[last] = copy.deepcopy(value)
    return config


def snapshots(config: Mapping[str, Any], data_dir: str | None) -> Iterator[Snapshot]:
    """Meta-trains as `l2ljax train` does, and keeps what validation chooses.

    Yields:
        one for each time that validation chose anew, and the last choice again at the end.
    """
    start = time.perf_counter()
    parts = experiment.build(config, data_dir)
    init_key, run_key = jax.random.split(jax.random.fold_in(jax.random.key(config["seed"]), 1))
    meta_params = parts.optimizer.init(init_key)
    if config.get("initial") is not None:
        meta_params = load_meta_params(config["initial"], like=meta_params)
    state = init_state(parts.estimator, parts.meta_optimizer, meta_params, run_key)
    last = config["num_meta_updates"]
    for update in range(1, last + 1):
        estimator = parts.estimator.at(update - 1)
        state, metrics = meta_step(estimator, parts.meta_optimizer, state)
        if update % config["validation"]["every"] and update < last:
            if update % 10 == 0:
                jax.block_until_ready(metrics["meta_loss"])  # as a loop that tells of it does
            continue
        state, _ = jax.block_until_ready(validate(parts.validation, state))
        if int(state.best_update) == update or update == last:
            chosen = jax.tree.map(jnp.copy, state.best_meta_params)
            seconds = time.perf_counter() - start
            yield Snapshot(seconds, update, float(state.best_score), chosen)


def save_snapshots(path: Path, config: Mapping[str, Any], found: Sequence[Snapshot]) -> None:
    """As arrays and JSON."""
    arrays: dict[str, Any] = {
        f"{number}/{name}": np.asarray(leaf)
        for number, snapshot in enumerate(found)
        for name, leaf in named_leaves(snapshot.meta_params).items()
    }
    about = {"config": dict(config), "snapshots": [list(snapshot[:3]) for snapshot in found]}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, about=np.array(json.dumps(about)), **arrays)


def load_snapshots(path: Path) -> tuple[dict[str, Any], list[Snapshot]]:
    """What `save_snapshots` was given."""
    with np.load(path) as arrays:
        about = json.loads(str(arrays["about"]))
        optimizer = optimizers.build(about["config"]["optimizer"])
        like = jax.eval_shape(optimizer.init, jax.random.key(0))
        found = [
            Snapshot(seconds, update, score, _tree(arrays, f"{number}/", like))
            for number, (seconds, update, score) in enumerate(about["snapshots"])
        ]
    return about["config"], found


def _tree(arrays: Any, prefix: str, like: MetaParams) -> MetaParams:
    leaves = [jnp.asarray(arrays[f"{prefix}{name}"]) for name in named_leaves(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def judges_task(config: Mapping[str, Any], data_dir: str | None) -> Any:
    """That of the configuration's evaluation."""
    return build_task({**config["task"], **config["evaluation"].get("task", {})}, data_dir)


def with_cosine(num_steps: int) -> dict[str, MakeTransform]:
    """NAG and Adam whose rate falls from the given one to 0 by `num_steps`, along a cosine.

    Example:
        >>> sorted(with_cosine(100))
        ['adam, cosine', 'nag, cosine']
    """

    def adam(rate: Any) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(rate, num_steps))

    def nag(rate: Any) -> optax.GradientTransformation:
        schedule = optax.cosine_decay_schedule(rate, num_steps)
        return optax.sgd(schedule, momentum=0.9, nesterov=True)

    return {"nag, cosine": nag, "adam, cosine": adam}


def baselines(work: str, data_dir: str | None, cosine: bool = False) -> dict[str, Any]:
    """Tuned on other draws, and run on the judge's optimizees: rates, final and mean losses.

    Args:
        work: a key of `RECIPES`.
        data_dir: where TFDS finds its data sets.
        cosine: those of `with_cosine` instead of `l2ljax.evaluation.BASELINES`, on the same
            optimizees and over the grid that is the default.
    """
    config = config_of(work, next(iter(RECIPES[work])), 0)
    steps = config["evaluation"]["num_steps"]
    key, sizes = jax.random.key(JUDGE), dict(SIZES[work])
    if cosine:
        sizes.pop("learning_rates", None)  # they are of constant rates
    made = with_cosine(steps) if cosine else BASELINES
    task = judges_task(config, data_dir)
    curves = compare(task, {}, key, num_steps=steps, baselines=made, **sizes)
    told = {
        name: {
            "learning_rate": curve.learning_rate,
            "edge": None if curve.tuning is None else curve.tuning.edge,
            "final": final_loss(curve).tolist(),
            "mean": curve.losses.mean(axis=1).tolist(),
        }
        for name, curve in curves.items()
    }
    return {"num_steps": steps, "sizes": sizes, "seed": JUDGE, "optimizers": told}


def judged(
    config: Mapping[str, Any],
    found: Sequence[Snapshot],
    beside: Mapping[str, Any],
    data_dir: str | None,
) -> list[dict[str, Any]]:
    """Each snapshot on the judge's optimizees, the same that the baselines were run on."""
    task, optimizer = judges_task(config, data_dir), optimizers.build(config["optimizer"])
    sizes = {name: size for name, size in beside["sizes"].items() if name != "learning_rates"}
    key, curve = jax.random.key(beside["seed"]), []
    for seconds, update, score, meta_params in found:
        if curve and curve[-1]["validation"] == score:  # the last choice again
            curve.append({**curve[-1], "seconds": seconds, "update": update})
            continue
        own = compare(
            task,
            {"learned": (optimizer, meta_params)},
            key,
            num_steps=beside["num_steps"],
            baselines={},
            **sizes,
        )["learned"]
        curve.append(
            {
                "seconds": round(seconds, 2),
                "update": update,
                "validation": score,
                "final": float(final_loss(own).mean()),
                "mean": float(own.losses.mean()),
                "above": above(final_loss(own), beside["optimizers"]),
            }
        )
    return curve


def final_loss(curve: Curve) -> np.ndarray:
    """`[num_tasks]`, over many minibatches where the work has it so."""
    return curve.losses[:, -1] if curve.expected_loss is None else curve.expected_loss


def above(final: np.ndarray, beside: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Baseline -> 95 % interval of how far its final loss is above, paired by optimizee.

    Optimizees count as independent draws. (Crops of few photographs are not; the interval is then
    that for other crops of these.)
    """
    finals = {"learned": final} | {n: np.array(b["final"]) for n, b in beside.items()}
    curves = {name: Curve(None, end[:, None]) for name, end in finals.items()}
    found = differences(curves, "learned")
    return {name: found[name]["final_loss"]["ci95"] for name in beside}


def is_useful(point: Mapping[str, Any]) -> bool:
    """Whether every baseline's interval is above 0."""
    return all(low is not None and low > 0 for low, _ in point["above"].values())


def useful_at(curve: Sequence[Mapping[str, Any]]) -> float | None:
    """Seconds after which all that was chosen is useful; `None` if the last is not.

    Example:
        >>> def at(seconds, low):
        ...     return {"seconds": seconds, "above": {"adam": [low, 1.0]}}
        >>> useful_at([at(1.0, -0.1), at(2.0, 0.1), at(3.0, -0.1), at(4.0, 0.1), at(5.0, 0.2)])
        4.0
    """
    times = []
    for point in reversed(curve):
        if not is_useful(point):
            break
        times.append(point["seconds"])
    return times[-1] if times else None
