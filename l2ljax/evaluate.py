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

from l2ljax.base import Key, Task
from l2ljax.checks import check_positive_int
from l2ljax.unroll import init_optimizee, unroll

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

    Example:
        >>> from l2ljax.tasks import quadratic
        >>> losses = evaluate(
        ...     quadratic(), optax.sgd(0.01), jax.random.key(0), num_tasks=3, num_steps=5
        ... )
        >>> losses.shape
        (3, 6)
    """
    check_positive_int("num_tasks", num_tasks)
    check_positive_int("num_steps", num_steps)
    return _evaluate(task, tx, key, num_tasks, num_steps, at_once)


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
        ValueError: if there is no candidate, or every one of them diverges.

    Example:
        >>> from l2ljax.tasks import quadratic
        >>> rates = (1e-3, 1e-2, 10.0)
        >>> rate, losses = tune(
        ...     quadratic(), optax.sgd, rates, jax.random.key(0), num_tasks=8, num_steps=9
        ... )
        >>> rate
        0.01
    """
    check_positive_int("num_tasks", num_tasks)
    check_positive_int("num_steps", num_steps)
    if not len(learning_rates):
        raise ValueError("tune needs at least one learning rate, got none.")
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


@functools.partial(jax.jit, static_argnums=(1, 3, 4, 5))
def _evaluate(task, tx, key, num_tasks, num_steps, at_once):
    return _rollouts(task, tx, key, num_tasks, num_steps, at_once)


@functools.partial(jax.jit, static_argnums=(1, 4, 5, 6))
def _tune(task, make_tx, rates, key, num_tasks, num_steps, at_once):
    # lax.map over the rates, not vmap: the optimizees already fill the device.
    return jax.lax.map(
        lambda rate: _rollouts(task, make_tx(rate), key, num_tasks, num_steps, at_once), rates
    )


def _rollouts(task, tx, key, num_tasks, num_steps, at_once):
    def one(key):
        init_key, run_key = jax.random.split(key)
        return unroll(task, tx, init_optimizee(task, tx, init_key), run_key, num_steps)[1]

    keys = jax.random.split(key, num_tasks)
    return jax.lax.map(one, keys, batch_size=min(at_once, num_tasks))


class Curve(NamedTuple):
    """One optimizer's results: its learning rate (`None` if learned) and `[num_tasks, T + 1]`."""

    learning_rate: float | None
    losses: np.ndarray


def compare(
    task: Task,
    learned: Mapping[str, optax.GradientTransformation],
    key: Key,
    *,
    num_tasks: int,
    num_steps: int,
    num_tuning_tasks: int,
    baselines: Mapping[str, MakeTransform] = BASELINES,
    at_once: int = 64,
    on_done: Callable[[str], None] = lambda name: None,
) -> dict[str, Curve]:
    """Learned transformations beside tuned baselines, on the same fresh optimizees.

    Args:
        task: where the optimizees come from.
        learned: name -> transformation.
        key: `fold_in(key, 0)` draws what is reported, `fold_in(key, 1)` what rates are tuned on.
        num_tasks: optimizees reported.
        num_steps: inner steps, in tuning too.
        num_tuning_tasks: optimizees for each learning rate.
        baselines: name -> function of the learning rate.
        at_once: optimizees run side by side.
        on_done: called with each name as it is finished.

    Returns:
        name -> `Curve`, learned ones first.
    """
    report_key, tune_key = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
    run = functools.partial(
        evaluate, task, key=report_key, num_tasks=num_tasks, num_steps=num_steps, at_once=at_once
    )
    curves = {}
    for name, tx in learned.items():
        curves[name] = Curve(None, np.asarray(run(tx=tx), np.float64))
        on_done(name)
    for name, make_tx in baselines.items():
        rate, _ = tune_inside(
            task,
            make_tx,
            tune_key,
            num_tasks=num_tuning_tasks,
            num_steps=num_steps,
            at_once=at_once,
        )
        curves[name] = Curve(rate, np.asarray(run(tx=make_tx(rate)), np.float64))
        on_done(name)
    return curves


def bootstrap_ci95(
    losses: np.ndarray, *, num_resamples: int = 4000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile bootstrap interval of the mean over axis 0 (Efron 1979).

    Args:
        losses: `[num_tasks, ...]`.
        num_resamples: bootstrap samples of the tasks.
        seed: of the resampling.

    Returns:
        lower and upper ends, each `[...]`.
    """
    losses = np.asarray(losses, np.float64)
    n = losses.shape[0]
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=num_resamples)
    means = counts @ losses.reshape(n, -1) / n
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return low.reshape(losses.shape[1:]), high.reshape(losses.shape[1:])


def summarise(curve: Curve) -> dict[str, Any]:
    """The numbers of one optimizer in `summary.json`.

    `mean_loss` is over tasks and all steps 0 ... T, `diverged` counts optimizees with a loss that
    is not finite; where there is one, means and intervals over it are null.
    """
    losses = curve.losses
    final, average = losses[:, -1], losses.mean(axis=1)
    return {
        "learning_rate": curve.learning_rate,
        "final_loss": {
            "mean": _finite(final.mean()),
            "ci95": [_finite(end) for end in bootstrap_ci95(final)],
            "median": _finite(np.median(final)),
        },
        "mean_loss": _finite(average.mean()),
        "mean_loss_ci95": [_finite(end) for end in bootstrap_ci95(average)],
        "diverged": int((~np.isfinite(losses).all(axis=1)).sum()),
    }


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
