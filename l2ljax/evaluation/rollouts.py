"""Measuring optimizers on fresh optimizees: vmapped rollouts, tuned baselines, statistics.

Every optimizer meets the same optimizees, starting points and minibatches (common random numbers),
and hand-designed ones have their learning rate tuned on other draws than those reported.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from l2ljax.base import Key, Params, Task
from l2ljax.checks import (
    check_choice,
    check_key,
    check_number,
    check_positive_int,
    check_task,
    check_transform,
    short,
)
from l2ljax.unrolling import draw_batch, init_optimizee, scalar_loss, unroll

MakeTransform = Callable[[Any], optax.GradientTransformation]

BASELINES: dict[str, MakeTransform] = {
    "sgd": optax.sgd,
    "rmsprop": optax.rmsprop,
    "adam": optax.adam,
    "nag": functools.partial(optax.sgd, momentum=0.9, nesterov=True),
}
"""Name -> function of the learning rate, the paper's four hand-designed optimizers."""

LEARNING_RATES = tuple(float(f"{10 ** (i / 3):.3g}") for i in range(-12, 7))
"""1e-4 ... 1e2, three a decade."""


def evaluate(
    task: Task,
    tx: optax.GradientTransformation,
    key: Key,
    *,
    num_tasks: int,
    num_steps: int,
    at_once: int = 64,
) -> jax.Array:
    """Losses of `tx` on fresh optimizees.

    Args:
        task: where the optimizees come from.
        tx: any Optax transformation, learned or not.
        key: draws optimizees and minibatches; equal keys give equal ones whatever `tx` is.
        num_tasks: optimizees.
        num_steps: inner steps of each.
        at_once: optimizees run side by side, which bounds memory.

    Returns:
        float `[num_tasks, num_steps + 1]`; column t is f(theta_t), see `l2ljax.unroll`.

    Raises:
        ValueError: for counts that are no positive integers.
        TypeError: for a `task`, `tx` or `key` that is none.

    Example:
        >>> from l2ljax.tasks import quadratic
        >>> losses = evaluate(
        ...     quadratic(), optax.sgd(0.01), jax.random.key(0), num_tasks=3, num_steps=5
        ... )
        >>> losses.shape
        (3, 6)
    """
    return rollouts(task, tx, key, num_tasks=num_tasks, num_steps=num_steps, at_once=at_once)[1]


def rollouts(
    task: Task,
    tx: optax.GradientTransformation,
    key: Key,
    *,
    num_tasks: int,
    num_steps: int,
    at_once: int = 64,
) -> tuple[Params, jax.Array]:
    """As `evaluate`, with the optimizees' final parameters.

    Returns:
        params, every leaf `[num_tasks, ...]`, and losses, float `[num_tasks, num_steps + 1]`.

    Example:
        >>> from l2ljax.tasks import quadratic
        >>> key = jax.random.key(0)
        >>> params, losses = rollouts(quadratic(), optax.sgd(0.01), key, num_tasks=3, num_steps=5)
        >>> params.shape
        (3, 10)
    """
    check_task(task)
    check_transform("tx", tx)
    _check_sizes(key, num_tasks, num_steps, at_once)
    return _evaluate(task, tx, key, num_tasks, num_steps, at_once)[:2]


def tune(
    task: Task,
    make_tx: MakeTransform,
    learning_rates: Sequence[float],
    key: Key,
    *,
    num_tasks: int,
    num_steps: int,
    at_once: int = 64,
) -> tuple[float, jax.Array]:
    """The learning rate with the least mean final loss, found by one compiled sweep.

    Args:
        task: where the optimizees come from.
        make_tx: learning rate (a traced float32 scalar) -> transformation, e.g. `optax.adam`.
        learning_rates: candidates.
        key: draws the optimizees, the same for all rates; take another than evaluation's.
        num_tasks: optimizees for each rate.
        num_steps: inner steps of each.
        at_once: optimizees run side by side.

    Returns:
        the best rate, and all losses, float `[len(learning_rates), num_tasks, num_steps + 1]`. A
        rate at which any optimizee ends non-finite counts as infinitely bad.

    Raises:
        ValueError: if there is no candidate, one is no positive number, or every one of them
            diverges; for counts that are no positive integers.
        TypeError: for a `task`, `make_tx` or `key` that is none.

    Example:
        >>> from l2ljax.tasks import quadratic
        >>> rates = (1e-3, 1e-2, 10.0)
        >>> rate, losses = tune(
        ...     quadratic(), optax.sgd, rates, jax.random.key(0), num_tasks=8, num_steps=9
        ... )
        >>> rate
        0.01
    """
    check_task(task)
    if not callable(make_tx):
        raise TypeError(
            "make_tx must be a function of the learning rate such as optax.adam, got "
            f"{short(make_tx)}."
        )
    if np.ndim(learning_rates) != 1 or not len(learning_rates):
        raise ValueError(
            f"tune needs a list of at least one learning rate, got {short(learning_rates)}."
        )
    for rate in learning_rates:
        check_number("learning_rates", rate, above=0)
    _check_sizes(key, num_tasks, num_steps, at_once)
    rates = jnp.asarray(learning_rates, jnp.float32)
    losses = _tune(task, make_tx, rates, key, num_tasks, num_steps, at_once)
    final = np.asarray(losses[:, :, -1], np.float64).mean(axis=1)
    final = np.where(np.isfinite(final), final, np.inf)
    if not np.isfinite(final).any():
        raise ValueError(
            f"Every learning rate from {min(learning_rates)} to {max(learning_rates)} diverged; "
            "give smaller ones."
        )
    return float(learning_rates[int(np.argmin(final))]), losses


def tune_inside(
    task: Task,
    make_tx: MakeTransform,
    key: Key,
    *,
    num_tasks: int,
    num_steps: int,
    learning_rates: Sequence[float] = LEARNING_RATES,
    at_once: int = 64,
) -> tuple[float, tuple[float, ...]]:
    """`tune`, with the grid widened by a decade until the best rate is not at its edge.

    Returns:
        the best rate and the grid that it was found in.

    Raises:
        ValueError: if the best is still at an edge after three more decades.
    """
    rates, best = tuple(sorted(learning_rates)), 0.0
    for _ in range(4):
        best, _ = tune(
            task, make_tx, rates, key, num_tasks=num_tasks, num_steps=num_steps, at_once=at_once
        )
        if rates[0] < best < rates[-1]:
            return best, rates
        lower = tuple(rates[0] * 10 ** (-i / 3) for i in (3, 2, 1))
        upper = tuple(rates[-1] * 10 ** (i / 3) for i in (1, 2, 3))
        rates = lower + rates if best == rates[0] else rates + upper
    raise ValueError(
        f"The best learning rate, {best:g}, stays at the edge of {rates[0]:g}...{rates[-1]:g}."
    )


def _check_sizes(key: Any, num_tasks: Any, num_steps: Any, at_once: Any) -> None:
    check_key("key", key)
    check_positive_int("num_tasks", num_tasks)
    check_positive_int("num_steps", num_steps)
    check_positive_int("at_once", at_once)


@functools.partial(jax.jit, static_argnums=(1, 3, 4, 5, 6))
def _evaluate(task, tx, key, num_tasks, num_steps, at_once, final_batches=None):
    return _rollouts(task, tx, key, num_tasks, num_steps, at_once, final_batches)


@functools.partial(jax.jit, static_argnums=(1, 4, 5, 6))
def _tune(task, make_tx, rates, key, num_tasks, num_steps, at_once):
    # lax.map over the rates, not vmap: the optimizees already fill the device.
    return jax.lax.map(
        lambda rate: _rollouts(task, make_tx(rate), key, num_tasks, num_steps, at_once)[1], rates
    )


def _rollouts(task, tx, key, num_tasks, num_steps, at_once, final_batches=None):
    def one(key):
        init_key, run_key = jax.random.split(key)
        state, losses = unroll(task, tx, init_optimizee(task, tx, init_key), run_key, num_steps)

        def final_loss(key):
            batch = draw_batch(task, state.instance, key)
            return scalar_loss(task, state.params, batch).astype(jnp.float32)

        expected = None
        if final_batches is not None:
            batch_keys = jax.random.split(jax.random.fold_in(run_key, 0), final_batches)
            expected = jax.lax.map(final_loss, batch_keys).mean()
        return state.params, losses, expected

    keys = jax.random.split(key, num_tasks)
    return jax.lax.map(one, keys, batch_size=min(at_once, num_tasks))


class Curve(NamedTuple):
    """One optimizer's results.

    Attributes:
        learning_rate: `None` if learned.
        losses: `[num_tasks, T + 1]`.
        accuracy: of the final parameters, `[num_tasks]`, where it was asked for.
        expected_loss: of the final parameters over more minibatches, `[num_tasks]`, likewise.
    """

    learning_rate: float | None
    losses: np.ndarray
    accuracy: np.ndarray | None = None
    expected_loss: np.ndarray | None = None


def compare(
    task: Task,
    learned: Mapping[str, optax.GradientTransformation],
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
    at_once: int = 64,
    on_done: Callable[[str], None] = lambda name: None,
) -> dict[str, Curve]:
    """Learned transformations beside tuned baselines, on the same fresh optimizees.

    Args:
        task: where the optimizees come from.
        learned: name -> transformation.
        key: `fold_in(key, 0)` draws what is reported, `fold_in(key, 1)` what rates are tuned on.
        num_tasks: optimizees reported.
        num_steps: inner steps.
        num_tuning_tasks: optimizees for each learning rate.
        num_tuning_steps: inner steps after which rates are judged; default: `num_steps`.
        baselines: name -> function of the learning rate.
        learning_rates: name -> rate of a baseline that is not to be tuned, or candidates to start
            its tuning from; default: `LEARNING_RATES` for each.
        accuracy: of final parameters, leaves `[num_tasks, ...]` -> `[num_tasks]`; default: none.
        final_batches: minibatches over which `expected_loss` is the mean of f(theta_T), less noisy
            than the curve's last entry, which is of one; the same for all; default: none.
        at_once: optimizees run side by side.
        on_done: called with each name as it is finished.

    Returns:
        name -> `Curve`, learned ones first.

    Raises:
        ValueError: for a rate of no baseline or that is no positive number, and whatever
            `tune_inside` refuses.
    """
    check_task(task)
    _check_sizes(key, num_tasks, num_steps, at_once)
    if final_batches is not None:
        check_positive_int("final_batches", final_batches)
    learning_rates = learning_rates or {}
    for name, rate in learning_rates.items():
        check_choice("learning_rates", name, list(baselines))
        for candidate in rate if isinstance(rate, Sequence) else [rate]:
            check_number(f"learning_rates.{name}", candidate, above=0)
    report_key, tune_key = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)

    def run(rate, tx):
        check_transform("tx", tx)
        params, losses, expected = _evaluate(
            task, tx, report_key, num_tasks, num_steps, at_once, final_batches
        )
        judged = None if accuracy is None else np.asarray(accuracy(params), np.float64)
        expected = None if expected is None else np.asarray(expected, np.float64)
        return Curve(rate, np.asarray(losses, np.float64), judged, expected)

    curves = {}
    for name, tx in learned.items():
        curves[name] = run(None, tx)
        on_done(name)
    for name, make_tx in baselines.items():
        rate = learning_rates.get(name, LEARNING_RATES)
        if isinstance(rate, Sequence):
            rate, _ = tune_inside(
                task,
                make_tx,
                tune_key,
                num_tasks=num_tuning_tasks,
                num_steps=num_tuning_steps or num_steps,
                learning_rates=rate,
                at_once=at_once,
            )
        curves[name] = run(rate, make_tx(rate))
        on_done(name)
    return curves
