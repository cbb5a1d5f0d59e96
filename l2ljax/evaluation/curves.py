"""Learned optimizers beside tuned baselines, on the same fresh optimizees.

Hand-designed ones have their learning rate tuned on other draws than those reported.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from l2ljax.base import Key, Params, PyTree, Task
from l2ljax.checks import check_choice, check_number, check_positive_int, check_task, short
from l2ljax.evaluation._rollouts import (
    Optimizer,
    Sizes,
    check_counts,
    check_run,
    optimizee_keys,
    run,
)
from l2ljax.evaluation.comparison import Comparison
from l2ljax.evaluation.curve import Curve
from l2ljax.evaluation.stages import Around, Stage, just_compute, wait_for
from l2ljax.evaluation.tuning import BASELINES, LEARNING_RATES, MakeTransform, search


def compare(
    task: Task,
    learned: Mapping[str, Optimizer],
    key: Key,
    *,
    num_tasks: int,
    num_steps: int,
    num_tuning_tasks: int,
    num_tuning_steps: int | None = None,
    baselines: Mapping[str, MakeTransform] = BASELINES,
    learning_rates: Mapping[str, float | Sequence[float]] | None = None,
    accuracy: Callable[[Params], jax.Array] | None = None,
    final_batches: int | None = None,
    cluster: Callable[[PyTree, Key], jax.Array] | None = None,
    at_once: int = 64,
    on_done: Callable[[str], None] = lambda name: None,
    around: Around = just_compute,
) -> Comparison:
    """Learned optimizers beside tuned baselines, on the same fresh optimizees.

    What diverges, or a rate that stays at the edge of its grid, is kept and flagged in the curves.

    Args:
        task: where the optimizees come from.
        learned: name -> transformation, or pair of an `LearnedOptimizer` and its meta-parameters.
        key: `fold_in(key, 0)` draws what is reported, `fold_in(key, 1)` what rates are tuned on.
        num_tasks: optimizees reported.
        num_steps: inner steps.
        num_tuning_tasks: optimizees for each learning rate.
        num_tuning_steps: inner steps after which rates are judged; default: `num_steps`.
        baselines: name -> function of the learning rate.
        learning_rates: name -> rate of a baseline that is not to be tuned, or candidates to start
            its tuning from; default: `LEARNING_RATES` for each.
        accuracy: of final parameters, leaves `[num_tasks, ...]` -> `[num_tasks]`; default: none.
            With it, all final parameters are in memory at once.
        final_batches: minibatches over which `expected_loss` is the mean of f(theta_T), less noisy
            than the curve's last entry, which is of one; the same for all; default: none.
        cluster: (data, key), as `task.sample` is called with -> an integer that all optimizees
            share which are no independent draws; default: all are independent.
        at_once: optimizees run side by side.
        on_done: called with each name as it is finished.
        around: called for each `Stage` (a baseline's tuning, an optimizer's evaluation) with it and
            the function that computes its result, a `Tuning` or a `Curve`; what it returns is
            taken for the result. Default: calls the function.

    Returns:
        name -> `Curve`, learned ones first, in a dict that has `table()` and `plot()`.

    Raises:
        ValueError: before anything is run, for a name that is both learned and a baseline, a rate
            of no baseline or that is no positive number, counts that are no positive integers, and
            more tuning steps than steps.
        TypeError: for what is no task, key, transformation or pair.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> parabola = Task(init=lambda _, key: jnp.ones(()), loss=lambda x, _: x**2)
        >>> curves = compare(
        ...     parabola,
        ...     {"halving": optax.sgd(0.25)},
        ...     jax.random.key(0),
        ...     num_tasks=2,
        ...     num_steps=2,
        ...     num_tuning_tasks=2,
        ...     baselines={"sgd": optax.sgd},
        ...     learning_rates={"sgd": 0.5},
        ... )
        >>> curves["halving"].losses.tolist()
        [[1.0, 0.25, 0.0625], [1.0, 0.25, 0.0625]]
    """
    rates = {name: _given(name, rate) for name, rate in (learning_rates or {}).items()}
    _check(task, learned, key, baselines, rates, num_steps, num_tuning_steps)
    sizes = Sizes(num_tasks, num_steps, at_once, accuracy is not None, final_batches)
    check_counts(key, num_tasks, num_steps, at_once)
    check_positive_int("num_tuning_tasks", num_tuning_tasks)
    if final_batches is not None:
        check_positive_int("final_batches", final_batches)
    tuning_sizes = Sizes(num_tuning_tasks, num_tuning_steps or num_steps, at_once)
    report_key, tune_key = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
    for tx in learned.values():
        check_run(task, tx, key, num_tasks, num_steps, at_once)
    clusters = None
    if cluster is not None:
        draw = jax.jit(lambda data, keys: jax.vmap(lambda k: cluster(data, k))(keys))
        clusters = np.asarray(draw(task.data, optimizee_keys(report_key, num_tasks)))
    measured = functools.partial(_measured, task, report_key, sizes, accuracy, clusters)
    num_tuned = sum(isinstance(rates.get(name, LEARNING_RATES), tuple) for name in baselines)
    do = _Doing(around, task, len(learned) + len(baselines) + num_tuned)
    curves = {}
    for name, tx in learned.items():
        curves[name] = do("evaluating", name, tx, sizes, None, lambda tx=tx: measured(None, tx))
        on_done(name)
    for name, make_tx in baselines.items():
        rate, tuning = rates.get(name, LEARNING_RATES), None
        if isinstance(rate, tuple):
            find = functools.partial(search, task, make_tx, tune_key, tuning_sizes, rate)
            tuning = do("tuning", name, make_tx, tuning_sizes, list(rate), find)
            rate = tuning.learning_rate
        measure = functools.partial(measured, rate, make_tx(rate))
        found = do("evaluating", name, make_tx, sizes, rate, measure)
        curves[name] = found._replace(tuning=tuning)
        on_done(name)
    return Comparison(curves, num_tuning_steps=num_tuning_steps)


class _Doing:
    """Goes through `around` with each piece of work, and counts them."""

    def __init__(self, around: Around, task: Task, total: int):
        self.around, self.task, self.total, self.number = around, task, total, 0

    def __call__(
        self, work: str, name: str, optimizer: Any, sizes: Sizes, rate: Any, compute: Any
    ) -> Any:
        self.number += 1
        settings = {**sizes._asdict(), "learning_rate": rate}
        stage = Stage(work, name, self.number, self.total, self.task, optimizer, settings)
        return self.around(stage, compute)


def _measured(
    task: Task,
    key: Key,
    sizes: Sizes,
    accuracy: Callable[[Params], jax.Array] | None,
    clusters: np.ndarray | None,
    rate: float | None,
    tx: Optimizer,
) -> Curve:
    found = run(task, tx, key, sizes)
    wait_for(found.losses)
    judged = None if accuracy is None else np.asarray(accuracy(found.params), np.float64)
    expected = None if found.expected is None else np.asarray(found.expected, np.float64)
    losses = np.asarray(found.losses, np.float64)
    return Curve(rate, losses, judged, expected, clusters)


def _check(
    task: Any,
    learned: Mapping[str, Any],
    key: Any,
    baselines: Mapping[str, Any],
    learning_rates: Mapping[str, Any],
    num_steps: Any,
    num_tuning_steps: Any,
) -> None:
    check_task(task)
    if twice := sorted(set(learned) & set(baselines)):
        raise ValueError(
            f"The name {twice[0]!r} is a learned optimizer's and a baseline's; rename one of them."
        )
    for name in learning_rates:
        check_choice("learning_rates", name, list(baselines))
    if num_tuning_steps is not None:
        check_positive_int("num_tuning_steps", num_tuning_steps)
        if num_tuning_steps > num_steps:
            raise ValueError(
                f"num_tuning_steps must be at most num_steps, {num_steps}, got {num_tuning_steps}."
            )


def _given(name: str, rate: Any) -> float | tuple[float, ...]:
    """A baseline's rate, or the candidates for it, as plain numbers.

    Example:
        >>> _given("sgd", 1), _given("adam", np.array([0.5, 0.25]))
        (1.0, (0.5, 0.25))
        >>> _given("sgd", [])
        Traceback (most recent call last):
        ValueError: learning_rates.sgd must be a number or a list of at least one, got [].
    """
    if isinstance(rate, str) or np.ndim(rate) == 0:
        check_number(f"learning_rates.{name}", rate, above=0)
        return float(rate)
    if not len(rate):
        raise ValueError(
            f"learning_rates.{name} must be a number or a list of at least one, got {short(rate)}."
        )
    for candidate in rate:
        check_number(f"learning_rates.{name}", candidate, above=0)
    return tuple(map(float, rate))
