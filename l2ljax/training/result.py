"""What a run comes to: made at its end, or read from its directory."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax import optimizers
from l2ljax.base import LearnedOptimizer, MetaParams
from l2ljax.base.words import named_leaves, shapes
from l2ljax.checks import check_optimizer, check_path
from l2ljax.storage import checkpoint
from l2ljax.storage.workdir import read_config
from l2ljax.training.history import read_metrics
from l2ljax.training.step import NO_SCORE, MetaTrainState


class MetaTrainResult(NamedTuple):
    """What `meta_train` returns.

    Attributes:
        meta_params: the best by validation, or the last where there is no validation. Where no
            validation was finite, the last that gave a finite meta-gradient.
        last_meta_params: those after the last update.
        best_score: validation loss of the best (inf without validation).
        best_update: meta-updates after which it was reached.
        num_meta_updates: meta-updates made, fewer than asked for if the run was interrupted.
        num_skipped: of them, those skipped because they were not finite.
        num_diverged: optimizees that diverged in training and were started anew.
        num_restores: times that training went back to the best meta-parameters.
        interrupted: whether it ended early: by a signal, by `hook`, or given up.
        seconds: time spent in the loop, over all resumptions.
        history: the records that `metrics.jsonl` holds too.
        optimizer: the learned optimizer that was trained, where the estimator tells.

    Example:
        >>> found = MetaTrainResult(
        ...     jnp.ones(3), jnp.zeros(3), best_score=0.5, best_update=30, num_meta_updates=40,
        ...     num_skipped=0, num_diverged=2, num_restores=0, interrupted=False, seconds=9.0,
        ...     history=[{"update": 40, "meta_loss": 0.75}],
        ... )
        >>> found.meta_params.tolist()  # of update 30; those of update 40 are last_meta_params
        [1.0, 1.0, 1.0]
    """

    meta_params: MetaParams
    last_meta_params: MetaParams
    best_score: float
    best_update: int
    num_meta_updates: int
    num_skipped: int
    num_diverged: int
    num_restores: int
    interrupted: bool
    seconds: float
    history: list[dict[str, Any]]
    optimizer: LearnedOptimizer | None = None

    def __repr__(self) -> str:
        """On one line: counts and scores, shapes instead of weights."""
        interrupted = ", interrupted" * self.interrupted
        return (
            f"MetaTrainResult({self.num_meta_updates} meta-updates{interrupted}, best_score="
            f"{self.best_score:.6g} after {self.best_update}, {self.num_skipped} skipped, "
            f"{self.num_diverged} diverged, {self.num_restores} restores, {self.seconds:.1f} s, "
            f"{len(self.history)} records, meta_params={shapes(self.meta_params)})"
        )


def score_or_infinity(score: Any) -> float:
    """The best score as people read it: infinity where there was none."""
    return float(score) if float(score) < NO_SCORE else math.inf


def result_of(
    state: MetaTrainState,
    *,
    validated: bool,
    asked_for: int,
    seconds: float,
    history: list[dict[str, Any]],
    optimizer: LearnedOptimizer | None,
) -> MetaTrainResult:
    """The result of a run that has come to `state`.

    Args:
        state: of the run.
        validated: whether a validation chose the best meta-parameters.
        asked_for: meta-updates that were to be made.
        seconds, history, optimizer: as in the result.
    """
    update = int(state.update)
    return MetaTrainResult(
        meta_params=state.best_meta_params if validated else state.meta_params,
        last_meta_params=state.meta_params,
        best_score=score_or_infinity(state.best_score),
        best_update=int(state.best_update),
        num_meta_updates=update,
        num_skipped=int(state.faults.skipped),
        num_diverged=int(state.faults.diverged),
        num_restores=int(state.faults.restores),
        interrupted=update < asked_for,
        seconds=seconds,
        history=history,
        optimizer=optimizer,
    )


def load_run(workdir: str | Path, optimizer: LearnedOptimizer | None = None) -> MetaTrainResult:
    """The result of the run in `workdir` as of its newest checkpoint, finished or not.

    The learned optimizer is rebuilt from the specification that the run kept, if it has one.
    Nothing in the directory is changed, and the task and its data are not needed.

    Args:
        workdir: the directory that `meta_train` was given, or a script's `--workdir`.
        optimizer: the one that was trained. Give one that cannot be saved (it has no
            `specification`); its meta-parameters come as nested dicts otherwise.

    Returns:
        what `meta_train` returned, or would have if it had been interrupted there.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if all checkpoints are damaged, or the optimizer is another one.

    Example:
        >>> import tempfile, optax, l2ljax
        >>> optimizer, workdir = l2ljax.lstm(hidden_sizes=(4,)), tempfile.mkdtemp()
        >>> estimator = l2ljax.truncated_bptt(
        ...     l2ljax.tasks.quadratic(), optimizer, num_tasks=2, episode_length=4, unroll_length=4
        ... )
        >>> start = optimizer.init(jax.random.key(0))
        >>> _ = l2ljax.meta_train(estimator, optax.adam(1e-3), start, jax.random.key(1),
        ...     num_meta_updates=2, workdir=workdir)
        >>> run = load_run(workdir)
        >>> run.num_meta_updates, run.optimizer is optimizer
        (2, True)
        >>> tx = run.optimizer.transform(run.meta_params)
    """
    check_path("workdir", workdir)
    workdir = Path(workdir)
    if optimizer is not None:
        check_optimizer("optimizer", optimizer)
    found = checkpoint.load(workdir / "checkpoints")
    if found is None:
        raise FileNotFoundError(
            f"{workdir} holds no run with a checkpoint; give the workdir of meta_train."
        )
    specification = found.extra.get("optimizer")
    if specification is None and (workdir / "config.json").exists():
        specification = read_config(workdir).get("optimizer")
    if optimizer is None and specification is not None:
        optimizer = optimizers.build(specification)
    leaves = found.leaves
    fingerprint = found.extra.get("run", {})
    validated = fingerprint.get("validation") is not None or bool(leaves["best_score"] < NO_SCORE)
    name = "best_meta_params" if validated else "meta_params"
    return MetaTrainResult(
        meta_params=_part(leaves, name, optimizer, workdir),
        last_meta_params=_part(leaves, "meta_params", optimizer, workdir),
        best_score=score_or_infinity(leaves["best_score"]),
        best_update=int(leaves["best_update"]),
        num_meta_updates=int(leaves["update"]),
        num_skipped=int(leaves["faults/skipped"]),
        num_diverged=int(leaves["faults/diverged"]),
        num_restores=int(leaves["faults/restores"]),
        interrupted=int(leaves["update"]) < found.extra.get("num_meta_updates", 0),
        seconds=found.extra["seconds"],
        history=[
            record
            for record in read_metrics(workdir / "metrics.jsonl")
            if record["update"] <= int(leaves["update"])
        ],
        optimizer=optimizer,
    )


def _part(
    leaves: dict[str, np.ndarray], field: str, optimizer: LearnedOptimizer | None, workdir: Path
) -> MetaParams:
    """The meta-parameters in one field of the state."""
    found = {
        name.removeprefix(field).removeprefix("/") or "(root)": jnp.asarray(leaf)
        for name, leaf in leaves.items()
        if name == field or name.startswith(f"{field}/")
    }
    if optimizer is None:
        return found["(root)"] if "(root)" in found else _nested(found)
    like = jax.eval_shape(optimizer.init, jax.random.key(0))
    wanted = {name: leaf.shape for name, leaf in named_leaves(like).items()}
    if wanted != {name: leaf.shape for name, leaf in found.items()}:
        raise ValueError(
            f"The meta-parameters in {workdir} are not those of the optimizer that is given or "
            "named there; give the one that was trained as `optimizer`."
        )
    return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in wanted])


def _nested(found: dict[str, jax.Array]) -> MetaParams:
    tree: dict[str, Any] = {}
    for name, leaf in found.items():
        *folders, last = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = leaf
    return tree
