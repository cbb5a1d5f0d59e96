"""Statistics of results: what `summary.json` tells of each optimizer, and of one beside another."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from l2ljax.evaluation.curve import Curve

LEAST = 5
"""Independent optimizees; of fewer no interval is told."""


def mean_ci95(
    values: np.ndarray, clusters: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of the mean over axis 0, by Student's t (1908).

    mean -+ t_{0.975, k - 1} s / sqrt(k). With clusters, k is their number, and s / sqrt(k) the
    cluster-robust standard error (Liang and Zeger 1986): with r_c the sum of the deviations from
    the mean in cluster c of `n` values, sqrt(k / (k - 1) sum_c r_c^2) / n.

    It was chosen by its coverage of the true mean, simulated with 20,000 samples (2,000 for BCa,
    with 1,000 resamples), here in per cent for n = 5, 8, 16, 64. Student's t holds what it promises
    for few values, where a bootstrap cannot:

    | | normal | lognormal (sigma = 1) |
    | --- | --- | --- |
    | Student's t | 95.0, 95.0, 94.9, 94.9 | 81.6, 83.6, 85.5, 90.6 |
    | bootstrap, BCa | 84.4, 88.0, 92.4, 93.8 | 72.8, 80.8, 86.1, 90.9 |
    | bootstrap, percentiles | 83.2, 88.3, 92.7, 93.8 | 70.8, 77.7, 83.4, 89.8 |

    So with heavy tails it is too optimistic still; the summaries have medians and geometric means,
    whose interval is exact for a lognormal, beside it.

    Args:
        values: `[n, ...]`.
        clusters: labels `[n]`, equal for values that are not independent; default: all are.

    Returns:
        lower and upper ends, each `[...]`; NaN where there are fewer than `LEAST` independent
        values, or one is not finite.

    Example:
        >>> low, high = mean_ci95(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
        >>> round(float(low), 3), round(float(high), 3)
        (1.037, 4.963)
    """
    from scipy.special import stdtrit  # a third of a second that `import l2ljax` need not take

    values = np.asarray(values, np.float64)
    n = values.shape[0]
    labels = np.arange(n) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    k = int(labels.max()) + 1
    if k < LEAST:
        nothing = np.full(values.shape[1:], np.nan)
        return nothing, nothing.copy()
    with np.errstate(invalid="ignore", over="ignore"):
        mean = values.mean(axis=0)
        residuals = np.zeros((k, *values.shape[1:]))
        np.add.at(residuals, labels, values - mean)
        half = stdtrit(k - 1, 0.975) * np.sqrt(k / (k - 1) * (residuals**2).sum(axis=0)) / n
        return mean - half, mean + half


def summarise(curve: Curve, tuned_at: int | None = None) -> dict[str, Any]:
    """The numbers of one optimizer in `summary.json`.

    `mean_loss` is over tasks and all steps 0 ... T. `diverged` counts the optimizees that are
    `nonfinite` (a loss is not finite) or `above_start` (the last loss is above the first). Where a
    value is not finite, the means and intervals over it are null; medians count it as worst.
    Intervals are null below `LEAST` independent optimizees. Where learning rates were tuned for
    fewer steps than T, `tuned_loss` is the loss after so many. `tuning` is how a rate was found.

    Args:
        curve: its results.
        tuned_at: inner steps that rates were tuned for; default: all.

    Returns:
        JSON values by name, as above.

    Example:
        >>> found = summarise(Curve(None, np.array([[4.0, 1.0], [4.0, np.nan], [4.0, 9.0]])))
        >>> found["diverged"], found["nonfinite"], found["above_start"]
        (2, 1, 1)
        >>> found["final_loss"]["mean"], found["final_loss"]["median"]
        (None, 9.0)
    """
    losses, clusters = curve.losses, curve.clusters
    with np.errstate(invalid="ignore", over="ignore"):
        average = losses.mean(axis=1)
    nonfinite = ~np.isfinite(losses).all(axis=1)
    above_start = ~nonfinite & (losses[:, -1] > losses[:, 0])
    over_steps = _statistics(average, clusters)
    numbers = {
        "learning_rate": curve.learning_rate,
        "final_loss": _statistics(losses[:, -1], clusters) | _geometric(losses[:, -1], clusters),
        "mean_loss": over_steps["mean"],
        "mean_loss_ci95": over_steps["ci95"],
        "mean_loss_median": over_steps["median"],
        "diverged": int((nonfinite | above_start).sum()),
        "nonfinite": int(nonfinite.sum()),
        "above_start": int(above_start.sum()),
    }
    if tuned_at is not None and tuned_at != losses.shape[1] - 1:
        numbers["tuned_loss"] = _statistics(losses[:, tuned_at], clusters)
    for what in ("accuracy", "expected_loss"):
        if (values := getattr(curve, what)) is not None:
            numbers[what] = _statistics(values, clusters)
    if clusters is not None:
        numbers["num_clusters"] = len(np.unique(clusters))
    if curve.tuning is not None:
        tuning = curve.tuning._asdict() | {"grid": list(curve.tuning.grid)}
        tuning["final_losses"] = list(curve.tuning.final_losses)
        tuning["nonfinite"] = list(curve.tuning.nonfinite)
        numbers["tuning"] = tuning
    return numbers


def columns(curves: Mapping[str, Curve]) -> dict[str, np.ndarray]:
    """The columns of `curves.csv`: each optimizer's mean, 95 % interval and median, `[T + 1]`."""
    found = {}
    for name, curve in curves.items():
        with np.errstate(invalid="ignore", over="ignore"):
            found[f"{name}_mean"] = curve.losses.mean(axis=0)
        low, high = mean_ci95(curve.losses, curve.clusters)
        found[f"{name}_ci95_low"], found[f"{name}_ci95_high"] = low, high
        found[f"{name}_median"] = median_of(curve.losses)
    return found


def differences(curves: Mapping[str, Curve], first: str) -> dict[str, Any]:
    """How far each other optimizer's losses are above those of `first` on the same optimizees.

    Args:
        curves: from `compare`, so of the same draws.
        first: the name of one of them.

    Returns:
        name -> `final_loss`, `mean_loss` and, where it was asked for, `expected_loss`, each with
        its mean over optimizees, 95 % interval and median. In a median a loss that is not finite
        is infinitely far above one that is, and level with another such. `final_ratio` has the
        geometric mean of the ratios of the final losses and its interval: where tails are heavy, it
        tells more than differences.

    Example:
        >>> ends = {"a": 1.0, "b": 3.0}
        >>> curves = {name: Curve(None, np.array([[4.0, end]])) for name, end in ends.items()}
        >>> differences(curves, "a")["b"]["final_loss"]["mean"]
        2.0
    """
    clusters = curves[first].clusters

    def losses(curve: Curve) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore", over="ignore"):
            found = {"final_loss": curve.losses[:, -1], "mean_loss": curve.losses.mean(axis=1)}
        if curve.expected_loss is not None:
            found["expected_loss"] = curve.expected_loss
        return found

    own = losses(curves[first])
    found = {}
    for name, curve in curves.items():
        if name == first:
            continue
        found[name] = {
            what: _statistics(_above(values, own[what]), clusters, nan=0.0)
            for what, values in losses(curve).items()
        }
        found[name]["final_ratio"] = _geometric(
            curve.losses[:, -1], clusters, beside=own["final_loss"]
        )
    return found


def median_of(values: np.ndarray, nan: float = np.inf) -> np.ndarray:
    """Over axis 0, with NaN as the worst that can be, +infinity, or as something else.

    Example:
        >>> float(median_of(np.array([1.0, np.nan, 2.0])))
        2.0
    """
    values = np.where(np.isnan(values), nan, values)
    with np.errstate(invalid="ignore"):
        low = np.quantile(values, 0.5, axis=0, method="lower")
        high = np.quantile(values, 0.5, axis=0, method="higher")
        return np.where(low == high, low, (low + high) / 2)


def _above(values: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Differences; of a loss that is not finite to one that is, infinity, of two of them, NaN."""
    own_or_worst = np.where(np.isfinite(own), own, np.inf)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(np.isfinite(values), values, np.inf) - own_or_worst


def _statistics(
    values: np.ndarray, clusters: np.ndarray | None = None, nan: float = np.inf
) -> dict[str, Any]:
    with np.errstate(invalid="ignore", over="ignore"):
        mean = values.mean()
    return {
        "mean": _finite(mean),
        "ci95": [_finite(end) for end in mean_ci95(values, clusters)],
        "median": _finite(median_of(values, nan)),
    }


def _geometric(
    values: np.ndarray, clusters: np.ndarray | None, beside: np.ndarray | float = 1.0
) -> dict[str, Any]:
    """10 to the mean of log10, and its interval; null unless all are positive and finite."""
    with np.errstate(all="ignore"):
        logs = np.log10(values) - np.log10(beside)
        logs = logs if np.isfinite(logs).all() else np.full_like(logs, np.nan)
        ends = 10.0 ** np.array([logs.mean(), *mean_ci95(logs, clusters)])
    mean, low, high = map(_finite, ends)
    return {"geometric_mean": mean, "geometric_ci95": [low, high]}


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
