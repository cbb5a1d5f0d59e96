"""What an adaptation comes to, and the files that it leaves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from l2ljax.base import LearnedOptimizer, MetaParams
from l2ljax.base.words import shapes
from l2ljax.bundled import save_optimizer
from l2ljax.checks import check_path
from l2ljax.evaluation import Comparison, Curve, differences, summarise
from l2ljax.experiments.adaptation.given import Start
from l2ljax.experiments.adaptation.verdict import Level
from l2ljax.experiments.comparison import write_results
from l2ljax.experiments.machine import hardware
from l2ljax.specification.plain import specification_of
from l2ljax.storage.workdir import make_directory

ADAPTED, START, EVALUATION = "adapted.safetensors", "start.safetensors", "evaluation"
TAKEN = (ADAPTED, START, EVALUATION, "config.json", "metrics.jsonl", "seconds.jsonl", "checkpoints")
"""What a directory must not hold, as it would be overwritten or mistaken for this run's."""


class Adaptation(NamedTuple):
    """What `adapt` returns.

    Attributes:
        optimizer: the learned optimizer.
        meta_params: the best by validation, those to start from among them;
            `optimizer.transform(meta_params)` is the optimizer to use.
        level: how its final losses stand to the best tuned baseline's, "better", "level" or
            "worse" by a paired 95 % interval; "unknown" where there is none.
        verdict: whether it is worth using, in one sentence.
        changed: whether these are other meta-parameters than those to start from.
        curves: "start", "adapted" and the tuned baselines on the same fresh optimizees;
            `curves.table()` and `curves.plot()` show them.
        validation: records `{"update": n, "validation_loss": x}`, from update 0.
        num_meta_updates: made.
        ended: why it ended, "done", "time", "stopped" (a signal) or "diverged".
        untuned: baselines that no time was left for.
        seconds: spent.
        path: the weights file, or `None`.

    Example:
        As `adapt` returns it, but for the numbers:

        >>> import jax
        >>> from l2ljax.optimizers import lstm
        >>> rule, losses = lstm((2,)), np.array([[4.0, 1.0]])
        >>> found = Adaptation(
        ...     rule, rule.init(jax.random.key(0)), "unknown", "One optimizee is too few to tell.",
        ...     changed=True, curves=Comparison({"adapted": Curve(None, losses)}), validation=[],
        ...     num_meta_updates=40, ended="time", untuned=(), seconds=60.0, path=None,
        ... )
        >>> tx = found.optimizer.transform(found.meta_params)
        >>> float(found.curves["adapted"].losses[0, -1])
        1.0
    """

    optimizer: LearnedOptimizer
    meta_params: MetaParams
    level: Level
    verdict: str
    changed: bool
    curves: Comparison
    validation: list[dict[str, Any]]
    num_meta_updates: int
    ended: str
    untuned: tuple[str, ...]
    seconds: float
    path: Path | None

    def __repr__(self) -> str:
        """The verdict and, a line each, what was measured."""
        rows = [f"  {name}: {curve!r}" for name, curve in self.curves.items()]
        head = (
            f"Adaptation({self.level}; {self.num_meta_updates} meta-updates, {self.seconds:.0f} s, "
            f"ended: {self.ended}, meta_params={shapes(self.meta_params)})"
        )
        return "\n".join([head, f"  {self.verdict}", *rows])


class Folder:
    """Where an adaptation leaves its files; without a directory, nowhere.

    Args:
        workdir: or `None`.
        start: what it begins with.

    Raises:
        ValueError: if there is something already, or the optimizer cannot be saved.
        OSError: if the directory cannot be made.
    """

    def __init__(self, workdir: str | Path | None, start: Start):
        if workdir is not None:
            check_path("workdir", workdir)
        self.workdir, self._start = None if workdir is None else Path(workdir), start
        if self.workdir is None:
            return
        if found := [name for name in TAKEN if (self.workdir / name).exists()]:
            raise ValueError(
                f"{self.workdir} holds {found[0]} already, and nothing is overwritten; give "
                "another workdir."
            )
        if specification_of(start.optimizer) is None:
            raise ValueError(
                f"{start.name}: this learned optimizer has no specification that rebuilds it, so "
                "no weights file can hold it; decorate its builder with @l2ljax.specified(), or "
                "leave workdir out."
            )
        make_directory(self.workdir)

    def begin(self, about: Mapping[str, Any]) -> None:
        """Writes the weights to start from."""
        if self.workdir is not None:
            path = self.workdir / START
            save_optimizer(path, self._start.optimizer, self._start.meta_params, about)

    def save(self, meta_params: MetaParams, card: Mapping[str, Any]) -> Path | None:
        """Writes the adapted weights with what is known of them so far."""
        if self.workdir is None:
            return None
        save_optimizer(self.workdir / ADAPTED, self._start.optimizer, meta_params, card)
        return self.workdir / ADAPTED

    def write(self, summary: Mapping[str, Any], curves: Mapping[str, Curve]) -> None:
        """Writes `evaluation/summary.json` and `curves.csv`."""
        if self.workdir is not None:
            write_results(self.workdir / EVALUATION, summary, curves)


def summary_of(
    place: str, curves: Mapping[str, Curve], key: Any, more: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of `summary.json`, as `scripts/evaluate.py` writes it, and `more`."""
    num_tasks, columns = np.shape(next(iter(curves.values())).losses)
    first = "adapted" if "adapted" in curves else "start"
    return {
        "task": place,
        "num_tasks": num_tasks,
        "num_steps": columns - 1,
        "num_tuning_steps": columns - 1,
        "key": key,
        "hardware": hardware(),
        "optimizers": {name: summarise(curve) for name, curve in curves.items()},
        "above": {"of": first, "losses": differences(curves, first)},
        **more,
    }
