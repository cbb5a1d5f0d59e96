"""The outer loop: a meta-optimizer descends the estimated meta-gradient.

The loop around the compiled step keeps the best meta-parameters by a fixed validation batch of
episodes, because meta-losses jump from episode to episode, and can log, checkpoint and resume in a
directory.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import optax

from l2ljax.base import GradientEstimator, Key, MetaParams
from l2ljax.checks import check_key, check_kind, check_transform, short
from l2ljax.estimators.crossing import check_crossing
from l2ljax.parallel import any_process
from l2ljax.parallel.meshes import moved_onto, outside_other_meshes
from l2ljax.training.faults import DivergenceError, check_limits, given_up, why_given_up
from l2ljax.training.loggers import Logger, as_loggers, logging_to
from l2ljax.training.progress import progress_bar
from l2ljax.training.records import plain, training_record
from l2ljax.training.result import MetaTrainResult
from l2ljax.training.run import Counts, Parts, Run, open_run, starting_point
from l2ljax.training.signals import stop_signals
from l2ljax.training.step import init_state, meta_step, validate
from l2ljax.training.validation import Validation

Hook = Callable[[dict[str, Any]], Any]


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
    hook: Hook | None = None,
    logger: Logger | Sequence[Logger] | None = None,
) -> MetaTrainResult:
    """Trains a learned optimizer's meta-parameters.

    With `workdir` the run appends its metrics to `metrics.jsonl`, when they were made to
    `seconds.jsonl`, and checkpoints into `checkpoints/`; started again with the same arguments it
    goes on from the newest checkpoint, and ends as if it had never stopped (`l2ljax.load_run` reads
    its result without them). A directory of another run is refused, saying what differs: key,
    initial weights, meta-optimizer, task data, settings of estimator and validation, or what one of
    their functions computes. One process at a time may be in it. In the main thread, Ctrl-C and
    SIGTERM end it after the current update with a checkpoint; a second Ctrl-C stops at once.

    An update whose meta-loss or meta-gradient is not finite, or whose outcome would not be, is
    skipped. After `max_consecutive_skips` of those in a row training goes back to the best
    meta-parameters (without validation, to the last that gave a finite meta-gradient), with a fresh
    state of the meta-optimizer, in which Optax's schedules go on, and with half its step.

    An estimator with a mesh spreads its tasks over the mesh's devices. With several processes
    (`jax.distributed.initialize`) each calls this function with the same arguments and a `workdir`
    that all can see; the first writes it, and a signal to any of them stops all.

    Args:
        estimator: makes meta-gradients, e.g. `truncated_bptt(...)`.
        meta_optimizer: any Optax transformation; line searches and others that want `value`,
            `grad`, `value_fn`, `obj_fn` or `grad_fn` get them.
        meta_params: where to start, from the learned optimizer's `init`. For a workdir that has a
            checkpoint their shapes suffice (`jax.eval_shape`).
        key: randomness of the whole run.
        num_meta_updates: meta-updates in all, those of a resumed run included.
        validation: scores meta-parameters; the best are returned. Default: return the last.
        validate_every: meta-updates between validations; one more is made at the end, also where a
            stopped run is resumed with no update left to make.
        max_consecutive_skips: skipped updates in a row after which training goes back.
        max_restores: times that it goes back; the next row of skipped updates stops it.
        workdir: directory of the run; nothing is written without it.
        checkpoint_every: meta-updates between checkpoints.
        log_every: meta-updates between records in the history.
        progress: show a progress bar with the time left.
        hook: called with each record of the history, a dict. If it returns something true, the run
            stops after that update, with a checkpoint, as it does at a signal.
        logger: one or several; each gets `log(update, {name: float})` for all records, with
            `seconds` since the run began, over all resumptions, and `close()` at the end, however
            the run ends. One that fails is warned of and left out.

    Returns:
        a `MetaTrainResult`. Records of its history have `update`, `meta_loss`, `meta_grad_norm`,
        `position` and `losses` (of the window; see the estimator), and the counts so far `skipped`
        (updates), `diverged` (optimizees) and `restores`; or `update` and `validation_loss`.
        Metrics of an estimator of one's own may be nested. Numbers that are not finite are null.

    Raises:
        TypeError: for an argument of the wrong kind, and an estimator that is no pytree of arrays.
        ValueError: for counts that are no positive integers, and for a workdir that holds another
            run; `max_consecutive_skips` and `max_restores` may be raised.
        BlockingIOError: if another process is working in `workdir`.
        DivergenceError: when a row of skipped updates follows the last restore, saying where it
            began. Its `result` is what would have been returned; with `workdir` a checkpoint of
            that state is kept, from which the run is refused in the same way.

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
    counts = Counts(num_meta_updates, validate_every, checkpoint_every, log_every).checked()
    limits = check_limits(max_consecutive_skips, max_restores)
    check_crossing("estimator", estimator)
    check_kind("workdir", workdir, str, Path, type(None))
    check_transform("meta_optimizer", meta_optimizer)
    check_key("key", key)
    _check_callables(validation, hook)
    loggers = as_loggers(logger) if jax.process_index() == 0 else []

    mesh = getattr(estimator, "mesh", None)
    with logging_to(loggers) as log, outside_other_meshes(mesh):
        if isinstance(validation, Validation):
            validation = moved_onto(validation.mesh, validation)
        parts = Parts(estimator, meta_optimizer, validation, limits)
        start, known = starting_point(meta_params, workdir)
        state = init_state(estimator, meta_optimizer, start, key)
        folder = None if workdir is None else Path(workdir)
        with (
            open_run(folder, parts, counts, state, key, start if known else None) as run,
            progress_bar(
                progress and jax.process_index() == 0, num_meta_updates, int(run.state.update)
            ) as bar,
            stop_signals() as stop,
        ):
            _train(run, bar, stop, hook, log)
            result = run.result()
    if given_up(faults := jax.device_get(run.state.faults), limits):
        raise DivergenceError(why_given_up(faults, limits), result)
    return result


def _train(
    run: Run, bar: Callable[..., Any], stop: threading.Event, hook: Hook | None, log: Hook
) -> None:
    """Updates until all are made, too many were not finite, or `stop` is set."""
    parts, counts = run.parts, run.counts
    update, previous = int(run.state.update), None
    stopped = given_up(jax.device_get(run.state.faults), parts.limits)

    def record(entry):
        run.record(entry)
        log({**entry, "seconds": round(run.seconds, 3)})
        if hook is not None and hook(dict(entry)):
            stop.set()

    if parts.validation is not None and update >= counts.num_meta_updates and not stopped:
        _validate_stopped(run, parts.validation, record)
    while update < counts.num_meta_updates and not stopped and not any_process(stop.is_set()):
        estimator = parts.estimator.at(update)
        run.state, metrics = meta_step(estimator, parts.meta_optimizer, run.state, parts.limits)
        update += 1
        # Waiting for the update before keeps one in flight and Ctrl-C prompt.
        stopped = previous is not None and given_up(jax.device_get(previous), parts.limits)
        previous = metrics["faults"]
        if counts.due(update, counts.log_every):
            record(training_record(update, metrics))
        if parts.validation is not None and counts.due(update, counts.validate_every):
            run.state, score = validate(parts.validation, run.state)
            record({"update": update, "validation_loss": plain(score)})
        if counts.due(update, counts.checkpoint_every):
            run.save()
        bar(update, run.recent)
    if update < counts.num_meta_updates:
        run.save()


def _validate_stopped(run: Run, validation: Validation, record: Hook) -> None:
    """The last validation of a run that was stopped where it is now to end.

    The checkpoint goes first: without the record this is done again, to the same end.
    """
    if any_process(not run.validated_last()):
        run.state, score = validate(validation, run.state)
        run.save(replace=True)
        record({"update": int(run.state.update), "validation_loss": plain(score)})


def _check_callables(validation: Any, hook: Any) -> None:
    if validation is not None and not callable(getattr(validation, "score", None)):
        raise TypeError(f"validation must be a Validation or None, got {short(validation)}.")
    if hook is not None and not callable(hook):
        raise TypeError(f"hook must be a function of a record or None, got {short(hook)}.")
