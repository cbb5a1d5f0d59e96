"""A run and what it keeps of itself, in memory or in a workdir: records and checkpoints."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import GradientEstimator, Key, MetaParams
from l2ljax.checks import check_positive_int
from l2ljax.storage import checkpoint
from l2ljax.storage.workdir import exclusive
from l2ljax.training.faults import Limits
from l2ljax.training.fingerprint import check_same_run, fingerprint
from l2ljax.training.history import MetricsLog, read_metrics
from l2ljax.training.result import MetaTrainResult, result_of
from l2ljax.training.step import MetaTrainState
from l2ljax.training.validation import Validation


class Parts(NamedTuple):
    """What computes: see `meta_train`."""

    estimator: GradientEstimator
    meta_optimizer: optax.GradientTransformation
    validation: Validation | None
    limits: Limits


class Counts(NamedTuple):
    """Meta-updates in all, and between one doing and the next."""

    num_meta_updates: int
    validate_every: int
    checkpoint_every: int
    log_every: int

    def checked(self) -> "Counts":
        """These as ints.

        Raises:
            ValueError: for one that is no positive integer, naming it.
        """
        return Counts(*(check_positive_int(n, count) for n, count in self._asdict().items()))

    def due(self, update: int, every: int) -> bool:
        """Whether it is time after this update, which the last always is."""
        return update % every == 0 or update == self.num_meta_updates


class Run:
    """Where a run stands and what is kept of it.

    Args:
        parts: what computes.
        counts: how often.
        state: where it begins.
        workdir: where records and checkpoints are written; without one, records are kept here.
        says: JSON values that go into each checkpoint.
        seconds: spent before.

    Attributes:
        state: the newest.
        recent: the newest records.
    """

    def __init__(
        self,
        parts: Parts,
        counts: Counts,
        state: MetaTrainState,
        workdir: Path | None = None,
        says: dict[str, Any] | None = None,
        seconds: float = 0.0,
    ):
        self.parts, self.counts, self.state = parts, counts, state
        self._workdir, self._says = workdir, says or {}
        self._started = time.perf_counter() - seconds
        self._log, self._clock = None, None
        self.recent: list[dict[str, Any]] = []
        if workdir is not None:
            update = int(state.update)
            self._log, self._clock = (
                MetricsLog(
                    workdir / name,
                    update,
                    first_checkpoint=min(counts.checkpoint_every, counts.num_meta_updates),
                    write=jax.process_index() == 0,
                )
                for name in ("metrics.jsonl", "seconds.jsonl")
            )
            self.recent = self._log.recent

    @property
    def seconds(self) -> float:
        """Spent so far, over all resumptions."""
        return time.perf_counter() - self._started

    def record(self, entry: dict[str, Any]) -> None:
        """Keeps a record, and in a file of its own the time: see `l2ljax.training.history`."""
        if self._log is None or self._clock is None:
            self.recent.append(entry)
            return
        self._log.append(entry)
        if [r["update"] for r in self._clock.recent[-1:]] != [entry["update"]]:
            self._clock.append({"update": entry["update"], "seconds": round(self.seconds, 3)})

    def validated_last(self) -> bool:
        """Whether the history has a validation after the last update."""
        update = int(self.state.update)
        return any(r["update"] == update and "validation_loss" in r for r in self.history())

    def history(self) -> list[dict[str, Any]]:
        """All records."""
        return read_metrics(self._workdir / "metrics.jsonl") if self._workdir else self.recent

    def save(self, *, replace: bool = False) -> None:
        """Writes a checkpoint, where there is a workdir; may replace one of the same update."""
        if self._workdir is not None:
            says = {"seconds": self.seconds, **self._says}
            directory = self._workdir / "checkpoints"
            update = int(self.state.update)
            checkpoint.save(directory, update, self.state, says, replace=replace)

    def result(self) -> MetaTrainResult:
        """What the run has come to."""
        return result_of(
            self.state,
            validated=self.parts.validation is not None,
            asked_for=self.counts.num_meta_updates,
            seconds=self.seconds,
            history=self.history(),
            optimizer=getattr(self.parts.estimator, "optimizer", None),
        )


def starting_point(meta_params: MetaParams, workdir: Any) -> tuple[MetaParams, bool]:
    """Arrays to begin with, and whether they are what was given or stand for its shapes.

    Raises:
        ValueError: for shapes without a workdir that has a checkpoint.
    """
    leaves = jax.tree.leaves(meta_params)
    if not any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
        return meta_params, True
    if workdir is None or not checkpoint.steps(Path(workdir) / "checkpoints"):
        raise ValueError(
            f"meta_params are shapes without numbers, and workdir={workdir} has no checkpoint to "
            "take them from; give the learned optimizer's init(key)."
        )
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), meta_params), False


@contextlib.contextmanager
def open_run(
    workdir: Path | None,
    parts: Parts,
    counts: Counts,
    state: MetaTrainState,
    key: Key,
    meta_params: MetaParams | None,
) -> Iterator[Run]:
    """The run that begins in `state`, or goes on from the newest checkpoint in `workdir`.

    Other processes are kept out of the workdir meanwhile, and other runs are refused.

    Args:
        workdir: or `None`.
        parts, counts: of the run.
        state: where it would begin.
        key: the run's.
        meta_params: where it began, if that is known.
    """
    if workdir is None:
        yield Run(parts, counts, state)
        return
    with exclusive(workdir) if jax.process_index() == 0 else contextlib.nullcontext():
        here = fingerprint(*parts, counts.validate_every, state, key, meta_params)
        found, seconds = checkpoint.load(workdir / "checkpoints", repair=True), 0.0
        if found is not None:
            there = found.extra.get("run", {})  # older ones do not tell
            if there:
                check_same_run(workdir, there, here)
            state, seconds = checkpoint.place(found, state), found.extra["seconds"]
            here = {**there, **here}
        specification = getattr(getattr(parts.estimator, "optimizer", None), "specification", None)
        says = {
            "num_meta_updates": counts.num_meta_updates,
            "optimizer": specification and dict(specification),
            "run": here,
        }
        yield Run(parts, counts, state, workdir, says, seconds)
