"""The outer loop: a meta-optimizer descends the estimated meta-gradient.

The whole state of a run is one pytree and one jitted, buffer-donating function moves it on. The
loop around it keeps the best meta-parameters by a fixed validation batch of episodes, because
meta-losses jump from episode to episode, and can log, checkpoint and resume in a directory.
"""

import contextlib
import dataclasses
import functools
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from l2ljax import checkpoint
from l2ljax.base import GradientEstimator, Key, LearnedOptimizer, MetaParams, PyTree, Task
from l2ljax.checks import check_key, check_kind, check_positive_int, check_transform
from l2ljax.parallel import (
    SPLIT,
    WHOLE,
    any_process,
    check_mesh,
    mean_over_tasks,
    over_tasks,
    replicate,
)
from l2ljax.unroll import init_optimizee, unroll
from l2ljax.workdir import MetricsLog


class MetaTrainState(NamedTuple):
    """Everything a run needs to go on.

    Attributes:
        update: int32 scalar, meta-updates made.
        key: the run's random key; update n uses `fold_in(key, n)`.
        meta_params: the current meta-parameters [phi].
        opt_state: the meta-optimizer's state.
        estimator_state: the estimator's running episodes.
        best_meta_params, best_score, best_update: the best so far by validation.
    """

    update: jax.Array
    key: Key
    meta_params: MetaParams
    opt_state: PyTree
    estimator_state: PyTree
    best_meta_params: MetaParams
    best_score: jax.Array
    best_update: jax.Array


class MetaTrainResult(NamedTuple):
    """What `meta_train` returns.

    Attributes:
        meta_params: the best by validation, or the last where there is no validation.
        last_meta_params: those after the last update.
        best_score: validation loss of the best (inf without validation).
        best_update: meta-updates after which it was reached.
        num_meta_updates: meta-updates made, fewer than asked for if the run was interrupted.
        interrupted: whether a signal stopped it.
        seconds: time spent in the loop, over all resumptions.
        history: the records that `metrics.jsonl` holds too.
    """

    meta_params: MetaParams
    last_meta_params: MetaParams
    best_score: float
    best_update: int
    num_meta_updates: int
    interrupted: bool
    seconds: float
    history: list[dict[str, Any]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Validation:
    """A fixed batch of episodes that scores meta-parameters; lower is better.

    The score is the weighted mean over steps of f(theta_t), averaged over `num_tasks` optimizees
    that are the same each time. A diverged optimizee makes it infinite.

    Attributes:
        task: where the optimizees come from; its data may differ from the training task's.
        optimizer: the learned optimizer.
        key: draws the optimizees and minibatches; take another than training's.
        num_tasks: optimizees.
        num_steps: inner steps of each.
        weights: w_1 ... w_T of the score, `[num_steps]`; default: all equal.
        at_once: optimizees run side by side, which bounds memory.
        mesh: devices to spread the optimizees over, see `truncated_bptt`.
    """

    task: Task
    key: Key
    optimizer: LearnedOptimizer = dataclasses.field(metadata={"static": True})
    num_tasks: int = dataclasses.field(metadata={"static": True})
    num_steps: int = dataclasses.field(metadata={"static": True})
    weights: tuple[float, ...] | None = dataclasses.field(default=None, metadata={"static": True})
    at_once: int = dataclasses.field(default=64, metadata={"static": True})
    mesh: Mesh | None = dataclasses.field(default=None, metadata={"static": True})

    def __post_init__(self):
        for name in ("num_tasks", "num_steps", "at_once"):
            check_positive_int(name, getattr(self, name))
        if self.weights is not None and len(self.weights) != self.num_steps:
            raise ValueError(f"weights must have {self.num_steps} entries, one per inner step.")
        check_mesh(self.mesh, self.num_tasks, ())

    def score(self, meta_params: MetaParams) -> jax.Array:
        """Float32 scalar."""
        weights = jnp.asarray(self.weights or (1.0,) * self.num_steps, jnp.float32)

        def mean_score(task, meta_params, keys):
            tx = self.optimizer.transform(meta_params)

            def episode(key):
                init_key, run_key = jax.random.split(key)
                optimizee = init_optimizee(task, tx, init_key)
                return unroll(task, tx, optimizee, run_key, self.num_steps)[1]

            losses = jax.lax.map(episode, keys, batch_size=min(self.at_once, len(keys)))
            score = jnp.mean(losses[:, 1:].astype(jnp.float32) @ (weights / weights.sum()))
            return mean_over_tasks(score, self.mesh)

        score = over_tasks(mean_score, self.mesh, (WHOLE, WHOLE, SPLIT), WHOLE)(
            self.task, meta_params, jax.random.split(self.key, self.num_tasks)
        )
        return jnp.where(jnp.isfinite(score), score, jnp.inf)


@functools.partial(jax.jit, static_argnames="meta_optimizer", donate_argnames="state")
def meta_step(
    estimator: GradientEstimator,
    meta_optimizer: optax.GradientTransformation,
    state: MetaTrainState,
) -> tuple[MetaTrainState, dict[str, jax.Array]]:
    """One meta-update. `state` is donated: use the one returned."""
    meta_loss, meta_grads, estimator_state, metrics = estimator.estimate(
        state.meta_params, state.estimator_state, jax.random.fold_in(state.key, state.update)
    )
    updates, opt_state = optax.with_extra_args_support(meta_optimizer).update(
        meta_grads, state.opt_state, state.meta_params, value=meta_loss
    )
    state = state._replace(
        update=state.update + 1,
        meta_params=optax.apply_updates(state.meta_params, updates),
        opt_state=opt_state,
        estimator_state=estimator_state,
    )
    metrics = {"meta_loss": meta_loss, "meta_grad_norm": optax.tree.norm(meta_grads), **metrics}
    return state, metrics


@functools.partial(jax.jit, donate_argnames="state")
def _validate(validation: Validation, state: MetaTrainState) -> tuple[MetaTrainState, jax.Array]:
    score = validation.score(state.meta_params)
    better = score < state.best_score

    def keep(new, old):
        return jnp.where(better, new, old)

    return (
        state._replace(
            best_meta_params=jax.tree.map(keep, state.meta_params, state.best_meta_params),
            best_score=keep(score, state.best_score),
            best_update=keep(state.update, state.best_update),
        ),
        score,
    )


def meta_train(
    estimator: GradientEstimator,
    meta_optimizer: optax.GradientTransformation,
    meta_params: MetaParams,
    key: Key,
    *,
    num_meta_updates: int,
    validation: Validation | None = None,
    validate_every: int = 100,
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
        workdir: directory of the run; nothing is written without it.
        checkpoint_every: meta-updates between checkpoints.
        log_every: meta-updates between records in the history.
        progress: show a progress bar with the time left.

    Returns:
        a `MetaTrainResult`. Records of its history have `update`, `meta_loss`, `meta_grad_norm`,
        `position` and `losses` (of the window; see the estimator), or `update` and
        `validation_loss`; numbers that are not finite are null.

    Raises:
        ValueError: for counts that are no positive integers, and for a workdir with a checkpoint of
            another run.

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
    check_kind("estimator", estimator, GradientEstimator)
    check_kind("validation", validation, Validation, type(None))
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
            history = log.records

        def record(entry):
            log.append(entry) if log else history.append(entry)

        progress = progress and jax.process_index() == 0
        bar = stack.enter_context(_progress(progress, num_meta_updates, int(state.update)))
        stop = stack.enter_context(_stop_signals())
        started = time.perf_counter() - seconds
        update, previous = int(state.update), None
        while update < num_meta_updates and not any_process(stop.is_set()):
            state, metrics = meta_step(estimator, meta_optimizer, state)
            update += 1
            # Waiting for the update before keeps one in flight and Ctrl-C prompt.
            jax.block_until_ready(previous)
            previous = metrics["meta_loss"]
            last = update == num_meta_updates
            if update % log_every == 0 or last:
                record({"update": update} | {k: _plain(v) for k, v in metrics.items()})
            if validation is not None and (update % validate_every == 0 or last):
                state, score = _validate(validation, state)
                record({"update": update, "validation_loss": _plain(score)})
            if manager and (update % checkpoint_every == 0 or last):
                elapsed = time.perf_counter() - started
                checkpoint.save(manager, update, state, {"seconds": elapsed})
            bar(update, history)
        seconds = time.perf_counter() - started
        if manager and update < num_meta_updates:
            checkpoint.save(manager, update, state, {"seconds": seconds})

    return MetaTrainResult(
        meta_params=state.meta_params if validation is None else state.best_meta_params,
        last_meta_params=state.meta_params,
        best_score=float(state.best_score),
        best_update=int(state.best_update),
        num_meta_updates=update,
        interrupted=update < num_meta_updates,
        seconds=seconds,
        history=history,
    )


def init_state(
    estimator: GradientEstimator,
    meta_optimizer: optax.GradientTransformation,
    meta_params: MetaParams,
    key: Key,
) -> MetaTrainState:
    """The state before the first update, on the devices of the estimator's mesh."""
    # Everything is where the compiled step will leave it, so that its second call is as its first.
    mesh = getattr(estimator, "mesh", None)
    init_key, run_key = jax.random.split(key)
    shared = (
        jnp.zeros([], jnp.int32),
        run_key,
        meta_params,
        meta_optimizer.init(meta_params),
        meta_params,
        jnp.full([], jnp.inf, jnp.float32),
        jnp.zeros([], jnp.int32),
    )
    # The state is donated, the caller's arrays are not.
    shared = replicate(jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), shared), mesh)
    update, run_key, meta_params, opt_state, *best = shared
    estimator_state = jax.jit(type(estimator).init)(estimator, init_key, meta_params)
    return MetaTrainState(update, run_key, meta_params, opt_state, estimator_state, *best)


def _plain(value: jax.Array) -> Any:
    """A JSON value: floats to 7 digits (all that float32 has), null for what is not finite."""
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


@contextlib.contextmanager
def _progress(show: bool, total: int, completed: int) -> Iterator[Any]:
    """A function `(update, history) -> None` that shows how far the run is."""
    if not show:
        yield lambda update, history: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("meta-training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("", total=total, completed=completed, note="compiling")

        def show_update(update: int, history: list[dict[str, Any]]) -> None:
            notes = {k: v for record in history[-20:] for k, v in record.items()}
            shown = [
                f"{label} {notes[name]:.4g}"
                for name, label in (("meta_loss", "meta-loss"), ("validation_loss", "validation"))
                if notes.get(name) is not None
            ]
            bar.update(task, completed=update, note="  ".join(shown))

        yield show_update
