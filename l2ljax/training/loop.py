"""The outer loop: a meta-optimizer descends the estimated meta-gradient.

The loop around the compiled step keeps the best meta-parameters by a fixed validation batch of
episodes, because meta-losses jump from episode to episode, and can log, checkpoint and resume in a
directory.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from l2ljax.base import GradientEstimator, Key, MetaParams
from l2ljax.checks import check_key, check_kind, check_positive_int, check_transform, short
from l2ljax.parallel import any_process
from l2ljax.storage import checkpoint
from l2ljax.storage.workdir import MetricsLog, read_metrics
from l2ljax.training.faults import DivergenceError, check_limits, given_up, why_given_up
from l2ljax.training.progress import progress_bar
from l2ljax.training.step import init_state, meta_step, validate
from l2ljax.training.validation import Validation


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
        interrupted: whether a signal stopped it.
        seconds: time spent in the loop, over all resumptions.
        history: the records that `metrics.jsonl` holds too.
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


def meta_train(
    estimator: GradientEstimator,
    meta_optimizer: optax.GradientTransformation,
    meta_params: MetaParams,
    key: Key,
    *,
    num_meta_updates: int,
    validation: Validation | None = None,
    validate_every: int = 100,
    max_consecutive_skips: int = 10,
    max_restores: int = 3,
    workdir: str | Path | None = None,
    checkpoint_every: int = 500,
    log_every: int = 10,
    progress: bool = False,
) -> MetaTrainResult:
    """Trains a learned optimizer's meta-parameters.

    With `workdir` the run appends its metrics to `metrics.jsonl` and checkpoints into
    `checkpoints/`; started again with the same arguments it goes on from the newest checkpoint, and
    ends as if it had never stopped. In the main thread, Ctrl-C and SIGTERM end it after the current
    update with a checkpoint; a second Ctrl-C stops at once.

    An update whose meta-loss or meta-gradient is not finite, or whose outcome would not be, is
    skipped. After `max_consecutive_skips` of those in a row training goes back to the best
    meta-parameters (without validation, to the last that gave a finite meta-gradient), with a fresh
    state of the meta-optimizer, in which Optax's schedules go on, and with half its step.

    An estimator with a mesh spreads its tasks over the mesh's devices. With several processes
    (`jax.distributed.initialize`) each calls this function with the same arguments and a `workdir`
    that all can see; the first writes it, and a signal to any of them stops all.

    Args:
        estimator: makes meta-gradients, e.g. `truncated_bptt(...)`.
        meta_optimizer: any Optax transformation.
        meta_params: where to start, from the learned optimizer's `init`.
        key: randomness of the whole run.
        num_meta_updates: meta-updates in all, those of a resumed run included.
        validation: scores meta-parameters; the best are returned. Default: return the last.
        validate_every: meta-updates between validations; one more is made at the end.
        max_consecutive_skips: skipped updates in a row after which training goes back.
        max_restores: times that it goes back; the next row of skipped updates stops it.
        workdir: directory of the run; nothing is written without it.
        checkpoint_every: meta-updates between checkpoints.
        log_every: meta-updates between records in the history.
        progress: show a progress bar with the time left.

    Returns:
        a `MetaTrainResult`. Records of its history have `update`, `meta_loss`, `meta_grad_norm`,
        `position` and `losses` (of the window; see the estimator), and the counts so far `skipped`
        (updates), `diverged` (optimizees) and `restores`; or `update` and `validation_loss`.
        Numbers that are not finite are null.

    Raises:
        ValueError: for counts that are no positive integers, and for a workdir with a checkpoint of
            another run.
        DivergenceError: when a row of skipped updates follows the last restore, saying where it
            began; with `workdir` a checkpoint of that state is kept, from which the run is
            refused in the same way.

    Example:
        >>> from l2ljax.estimators import truncated_bptt
        >>> from l2ljax.optimizers import lstm
        >>> from l2ljax.tasks import quadratic
        >>> optimizer = lstm(hidden_sizes=(4,))
        >>> estimator = truncated_bptt(
        ...     quadratic(), optimizer, num_tasks=8, episode_length=10, unroll_length=10
        ... )
        >>> start = optimizer.init(jax.random.key(0))
        >>> result = meta_train(
        ...     estimator, optax.adam(1e-3), start, jax.random.key(1), num_meta_updates=2
        ... )
        >>> result.num_meta_updates
        2
    """
    for name, count in {
        "num_meta_updates": num_meta_updates,
        "validate_every": validate_every,
        "checkpoint_every": checkpoint_every,
        "log_every": log_every,
    }.items():
        check_positive_int(name, count)
    limits = check_limits(max_consecutive_skips, max_restores)
    check_kind("estimator", estimator, GradientEstimator)
    if validation is not None and not callable(getattr(validation, "score", None)):
        raise TypeError(f"validation must be a Validation or None, got {short(validation)}.")
    check_kind("workdir", workdir, str, Path, type(None))
    check_transform("meta_optimizer", meta_optimizer)
    check_key("key", key)
    state = init_state(estimator, meta_optimizer, meta_params, key)

    with contextlib.ExitStack() as stack:
        manager, log, history, seconds = None, None, [], 0.0
        if workdir is not None:
            manager = stack.enter_context(
                checkpoint.open_checkpoints(Path(workdir) / "checkpoints")
            )
            if (restored := checkpoint.restore(manager, state)) is not None:
                state, extra = restored
                seconds = extra["seconds"]
            log = MetricsLog(
                Path(workdir) / "metrics.jsonl",
                int(state.update),
                write=jax.process_index() == 0,
            )
            history = log.recent

        def record(entry):
            log.append(entry) if log else history.append(entry)

        progress = progress and jax.process_index() == 0
        bar = stack.enter_context(progress_bar(progress, num_meta_updates, int(state.update)))
        stop = stack.enter_context(_stop_signals())
        started = time.perf_counter() - seconds
        update, previous = int(state.update), None
        stopped = given_up(jax.device_get(state.faults), limits)
        while update < num_meta_updates and not stopped and not any_process(stop.is_set()):
            state, metrics = meta_step(estimator, meta_optimizer, state, limits)
            update += 1
            # Waiting for the update before keeps one in flight and Ctrl-C prompt.
            stopped = previous is not None and given_up(jax.device_get(previous), limits)
            previous = faults = metrics.pop("faults")
            last = update == num_meta_updates
            if update % log_every == 0 or last:
                counts = {k: getattr(faults, k) for k in ("skipped", "diverged", "restores")}
                entry = {k: _plain(v) for k, v in (metrics | counts).items()}
                record({"update": update} | entry)
            if validation is not None and (update % validate_every == 0 or last):
                state, score = validate(validation, state)
                record({"update": update, "validation_loss": _plain(score)})
            if manager and (update % checkpoint_every == 0 or last):
                elapsed = time.perf_counter() - started
                checkpoint.save(manager, update, state, {"seconds": elapsed})
            bar(update, history)
        seconds = time.perf_counter() - started
        if manager and update < num_meta_updates:
            checkpoint.save(manager, update, state, {"seconds": seconds})

    faults = jax.device_get(state.faults)
    if given_up(faults, limits):
        raise DivergenceError(why_given_up(faults, limits))
    return MetaTrainResult(
        meta_params=state.meta_params if validation is None else state.best_meta_params,
        last_meta_params=state.meta_params,
        best_score=float(state.best_score),
        best_update=int(state.best_update),
        num_meta_updates=update,
        num_skipped=int(faults.skipped),
        num_diverged=int(faults.diverged),
        num_restores=int(faults.restores),
        interrupted=update < num_meta_updates,
        seconds=seconds,
        history=history if workdir is None else read_metrics(Path(workdir) / "metrics.jsonl"),
    )


def _plain(value: Any) -> Any:
    """A JSON value: floats to 7 digits (all that float32 has), null for what is not finite."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.floating):
        return array.tolist()

    def number(x):
        return float(f"{x:.7g}") if np.isfinite(x) else None

    return number(array) if array.ndim == 0 else [number(x) for x in array.reshape(-1)]


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; the second Ctrl-C raises KeyboardInterrupt as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number, frame):
        del frame
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
