"""Statistics of results: what `summary.json` tells of each optimizer, and of one beside another."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from l2ljax.evaluation.rollouts import Curve


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


def summarise(curve: Curve, tuned_at: int | None = None) -> dict[str, Any]:
    """The numbers of one optimizer in `summary.json`.

    `mean_loss` is over tasks and all steps 0 ... T, `diverged` counts optimizees with a loss that
    is not finite; where there is one, means and intervals over it are null. Where learning rates
    were tuned for fewer steps than T, `tuned_loss` is the loss after so many.

    Args:
        curve: its results.
        tuned_at: inner steps that rates were tuned for; default: all.
    """
    losses = curve.losses
    average = losses.mean(axis=1)
    numbers = {
        "learning_rate": curve.learning_rate,
        "final_loss": _statistics(losses[:, -1]),
        "mean_loss": _finite(average.mean()),
        "mean_loss_ci95": [_finite(end) for end in bootstrap_ci95(average)],
        "diverged": int((~np.isfinite(losses).all(axis=1)).sum()),
    }
    if tuned_at is not None and tuned_at != losses.shape[1] - 1:
        numbers["tuned_loss"] = _statistics(losses[:, tuned_at])
    for what in ("accuracy", "expected_loss"):
        if (values := getattr(curve, what)) is not None:
            numbers[what] = _statistics(values)
    return numbers


def differences(curves: Mapping[str, Curve], first: str) -> dict[str, Any]:
    """How far each other optimizer's losses are above those of `first` on the same optimizees.

    Args:
        curves: from `compare`, so of the same draws.
        first: the name of one of them.

    Returns:
        name -> `final_loss`, `mean_loss` and, where it was asked for, `expected_loss`, each with
        its mean over optimizees, 95 % interval and median.
    """

    def losses(curve: Curve) -> dict[str, np.ndarray]:
        found = {"final_loss": curve.losses[:, -1], "mean_loss": curve.losses.mean(axis=1)}
        if curve.expected_loss is not None:
            found["expected_loss"] = curve.expected_loss
        return found

    own = losses(curves[first])
    return {
        name: {what: _statistics(values - own[what]) for what, values in losses(curve).items()}
        for name, curve in curves.items()
        if name != first
    }


def _statistics(values: np.ndarray) -> dict[str, Any]:
    return {
        "mean": _finite(values.mean()),
        "ci95": [_finite(end) for end in bootstrap_ci95(values)],
        "median": _finite(np.median(values)),
    }


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
