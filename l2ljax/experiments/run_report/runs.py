"""A run's directory, read for its page: history, what is known of it, evaluation, learned rule."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from l2ljax.base import LearnedOptimizer, MetaParams
from l2ljax.bundled import load_optimizer, read_sealed
from l2ljax.checks import short, shorten
from l2ljax.storage import checkpoint
from l2ljax.storage.workdir import finished_weights, read_config
from l2ljax.training.history import read_metrics, read_seconds
from l2ljax.training.result import load_run

CURVE_PARTS = ("mean", "ci95_low", "ci95_high", "median")
SETTING = ("task", "task_arguments", "num_tasks", "num_steps", "num_tuning_steps")
"""What evaluations in one figure share."""

KNOWN = ("command", "hardware", "seconds", "best_update", "validation_loss", "versions")


class Evaluation(NamedTuple):
    """What `l2ljax evaluate` left: `summary.json`, and the columns of `curves.csv`."""

    summary: dict[str, Any]
    columns: dict[str, np.ndarray]

    @property
    def setting(self) -> tuple[Any, ...]:
        """What two evaluations must share to be compared."""
        return tuple(json.dumps(self.summary.get(n), sort_keys=True) for n in SETTING)


class Run(NamedTuple):
    """A run as its directory tells it.

    Attributes:
        name: what it is called on the page.
        workdir: its directory.
        config: what it was configured with; `None` for one that was started in code.
        records: its history.
        card: what the weights, or the newest checkpoint, say: some of `KNOWN`, and `finished`.
        optimizer, meta_params: the learned rule; `None` if it cannot be had.
        why_none: then, the reason.
        evaluation: if there was one.
        times: meta-updates with the seconds spent by then; none of runs that noted no time.
    """

    name: str
    workdir: Path
    config: dict[str, Any] | None
    records: list[dict[str, Any]]
    card: dict[str, Any]
    optimizer: LearnedOptimizer | None
    meta_params: MetaParams
    why_none: str
    evaluation: Evaluation | None
    times: list[tuple[int, float]]

    def series(self, what: str) -> tuple[np.ndarray, np.ndarray]:
        """Updates and values of one number of the records; NaN for what is not finite."""
        found = [(r["update"], r[what]) for r in self.records if what in r]
        table = np.array(
            [(u, np.nan if v is None else v) for u, v in found if v is None or _is_number(v)],
            np.float64,
        ).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    def seconds_at(self, updates: np.ndarray) -> np.ndarray | None:
        """Seconds since the run began, as it noted them; `None` if they are not known.

        Between two notes, in all of a run without any, and beyond the last, time is spread evenly
        over the meta-updates.
        """
        total, last = (_number(self.card.get(name)) for name in ("seconds", "num_meta_updates"))
        known: list[tuple[float, float]] = [(0, 0.0), *self.times]
        if last > known[-1][0] and total >= known[-1][1] and total > 0:
            known.append((last, total))
        if len(known) == 1:
            return None
        update, seconds = known[-1]
        within = np.interp(updates, *np.array(known).T)
        return np.where(updates > update, updates * (seconds / update), within)

    @property
    def seedless(self) -> str | None:
        """The configuration without its seed: equal for runs that are repetitions."""
        if self.config is None:
            return None
        return json.dumps({**self.config, "seed": None}, sort_keys=True)


def read_runs(workdirs: Sequence[str | Path], *, rules: bool = True) -> list[Run]:
    """The runs in these directories, in order.

    Args:
        workdirs: of runs, each another one.
        rules: read the weights and evaluations, too; otherwise history and configuration.

    Raises:
        ValueError, FileNotFoundError: for no directory, the same one twice, one that holds no run
            or no history, and damaged files; in one sentence that names it.
    """
    if not workdirs:
        raise ValueError("Give the directory of at least one run.")
    paths = [Path(workdir) for workdir in workdirs]
    seen: dict[Path, Path] = {}
    for path in paths:
        if (there := seen.setdefault(path.resolve(), path)) is not path:
            raise ValueError(f"{path} and {there} are the same directory; give each run once.")
    return [read_run(path, name, rules) for path, name in zip(paths, _names(paths), strict=True)]


def read_run(workdir: Path, name: str, rules: bool = True) -> Run:
    """One of `read_runs`."""
    if not workdir.is_dir():
        kind = "is a file, not the directory of a run" if workdir.exists() else "is not there"
        raise FileNotFoundError(f"{workdir} {kind}; give the --workdir of `l2ljax train`.")
    has_config, history = (workdir / "config.json").exists(), workdir / "metrics.jsonl"
    if not has_config and not history.exists():
        raise FileNotFoundError(
            f"{workdir} holds no run: there is no config.json and no metrics.jsonl in it."
        )
    records = read_metrics(history)
    if not records:
        raise ValueError(
            f"The run in {workdir} has no history yet: no record in {history.name}; train on."
        )
    config = read_config(workdir) if has_config else None
    times = read_seconds(workdir / "seconds.jsonl")
    run = Run(name, workdir, config, records, {}, None, None, "", None, times)
    if not rules:
        return run
    return _with_weights(run)._replace(evaluation=_evaluation(workdir / "evaluation", config or {}))


def _names(paths: Sequence[Path]) -> list[str]:
    """The folders' names, with as much before them as tells them apart."""
    parts = [path.resolve().parts for path in paths]
    names: list[str] = []
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def _with_weights(run: Run) -> Run:
    """With the learned rule and what is known of it; damage to its files is an error."""
    weights = finished_weights(run.workdir)
    if weights is not None:
        metadata, _ = read_sealed(weights)
        card = {name: metadata[name] for name in KNOWN if name in metadata}
        config = metadata.get("config")
        card["num_meta_updates"] = (config or {}).get("num_meta_updates")
    elif not checkpoint.steps(run.workdir / "checkpoints"):
        return run._replace(card={"finished": False}, why_none="It has no checkpoint yet.")
    else:
        card = {}
    try:
        if weights is not None:
            optimizer, meta_params, _ = load_optimizer(weights)
        else:
            found = load_run(run.workdir)
            optimizer, meta_params = found.optimizer, found.meta_params
            card |= {
                "seconds": found.seconds, "best_update": found.best_update,
                "validation_loss": found.best_score, "num_meta_updates": found.num_meta_updates,
                "interrupted": found.interrupted,
            }  # fmt: skip
    except (checkpoint.DamagedCheckpointError, OSError):
        raise
    except (ValueError, TypeError) as error:  # somebody's own optimizer, without its code
        reason = shorten(f"{error}", 300)
        return run._replace(card={**card, "finished": weights is not None}, why_none=reason)
    card["finished"] = weights is not None or not card.get("interrupted", True)
    why = "" if optimizer is not None else "The run does not say which optimizer it trained."
    return run._replace(card=card, optimizer=optimizer, meta_params=meta_params, why_none=why)


def _evaluation(directory: Path, config: Mapping[str, Any]) -> Evaluation | None:
    """What `l2ljax evaluate` has written, if it was run; earlier ones as the run is configured."""
    summary_path, curves_path = directory / "summary.json", directory / "curves.csv"
    if not summary_path.exists() or not curves_path.exists():
        return None
    again = "run `l2ljax evaluate` again"
    try:
        summary = json.loads(summary_path.read_text())
        with curves_path.open(newline="") as file:
            heading, *rows = csv.reader(file)
        values = np.array(rows, np.float64).reshape(-1, len(heading)).T
        columns = dict(zip(heading, values, strict=True))
        finals = {name: one["final_loss"]["mean"] for name, one in summary["optimizers"].items()}
        wanted = ["step", *(f"{name}_mean" for name in finals)]
        missing = [name for name in wanted if name not in columns]
        _ = [summary[name] for name in ("task", "num_tasks", "num_steps")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"The evaluation in {directory} is damaged ({shorten(repr(error), 120)}); {again}."
        ) from error
    if missing or not len(columns["step"]):
        raise ValueError(
            f"{curves_path} has no column {short(missing[0])}; {again}."
            if missing
            else f"{curves_path} holds no step; {again}."
        )
    changes = (config.get("evaluation") or {}).get("task") or {}
    summary.setdefault("task_arguments", {**(config.get("task") or {}), **changes})
    return Evaluation(summary, columns)


def learned_in(summary: Mapping[str, Any]) -> list[str]:
    """Names of the learned optimizers of an evaluation."""
    return [n for n, row in summary["optimizers"].items() if row["learning_rate"] is None]


def _number(value: Any) -> float:
    """`value`, or 0 for what is none."""
    return float(value) if _is_number(value) else 0.0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
