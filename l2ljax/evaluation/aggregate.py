"""From many tasks to one figure: ratios to a reference, interquartile means, profiles, speed-ups.

Agarwal et al. (2021), arXiv:2108.13264: a mean over tasks follows its worst task and a median
ignores half of them; the interquartile mean is the mean of the middle half of all runs, and its
interval comes from resampling the runs of each task by themselves.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

WORST = 100.0
"""A run that diverged, or ended worse than that, counts as a hundred times the reference."""

SMOOTHING = 0.95
"""Of the published envelopes' evaluations, one each `EVERY` steps."""

EVERY = 10


class Aggregate(NamedTuple):
    """An interquartile mean over tasks and optimizees, and its 95 % interval."""

    iqm: float
    low: float
    high: float


def final_losses(losses: np.ndarray, share: float = 0.05) -> np.ndarray:
    """The mean over the last `share` of the steps, `[num_tasks, T + 1]` -> `[num_tasks]`.

    Example:
        >>> final_losses(np.array([[9.0, 2.0, 1.0]]), share=0.5).tolist()
        [1.0]
    """
    steps = losses.shape[1] - 1
    return np.asarray(losses, np.float64)[:, -max(1, round(share * steps)) :].mean(axis=1)


def ratios(ours: np.ndarray, reference: np.ndarray, start: np.ndarray, floor: float) -> np.ndarray:
    """Final losses relative to the reference's on the same optimizees, between 1/WORST and WORST.

    Args:
        ours, reference: final losses, `[num_tasks]`.
        start: losses at theta_0, `[num_tasks]`.
        floor: share of the loss at the start below which a task counts as solved by both.

    Returns:
        `[num_tasks]`: WORST where ours alone is not finite, 1/WORST where the reference alone is
        not, 1 where neither is.

    Example:
        >>> one = np.ones(2)
        >>> ratios(np.array([0.5, np.nan]), one, one, 1e-6).tolist()
        [0.5, 100.0]
    """
    least = np.nan_to_num(floor * np.abs(start), nan=0, posinf=0)
    lost, theirs_lost = ~np.isfinite(ours), ~np.isfinite(reference)
    ours, reference = np.maximum(ours, least), np.maximum(reference, least)
    with np.errstate(all="ignore"):
        ratio = ours / reference
    level = (lost & theirs_lost) | (ours == reference)  # both 0, too
    ratio = np.select([level, lost, theirs_lost], [1, WORST, 1 / WORST], ratio)
    return np.clip(ratio, 1 / WORST, WORST)


def interquartile_mean(
    by_task: Mapping[str, np.ndarray] | Sequence[np.ndarray],
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Aggregate:
    """The mean of the middle half of all runs, with a stratified bootstrap interval.

    Args:
        by_task: one array of numbers a task, `[num_tasks]`; the same number for each, so that tasks
            weigh alike.
        num_resamples: bootstrap samples.
        seed: of the resampling.

    Example:
        >>> interquartile_mean([np.array([0.0, 1.0]), np.array([1.0, 100.0])], num_resamples=10).iqm
        1.0
    """
    table = _table(by_task)
    middle = stats.trim_mean(table.ravel(), 0.25)
    samples = _resampled([table], num_resamples, seed)[0]
    return Aggregate(float(middle), *np.percentile(samples, [2.5, 97.5]).tolist())


def interquartile_difference(
    theirs: Mapping[str, np.ndarray] | Sequence[np.ndarray],
    ours: Mapping[str, np.ndarray] | Sequence[np.ndarray],
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Aggregate:
    """How far one interquartile mean is above another, of runs on the same optimizees.

    Runs are resampled in pairs: what makes an optimizee hard for both is no part of the interval,
    which is hence narrower than the two of the means would suggest.

    Args:
        theirs, ours: one array of numbers a task, `[num_tasks]`, of the same tasks, in one order.
        num_resamples: bootstrap samples.
        seed: of the resampling.

    Returns:
        theirs less ours, with its interval.

    Raises:
        ValueError: where the tables' shapes differ.

    Example:
        >>> runs = [np.array([0.0, 1.0, 5.0]), np.array([2.0, 7.0, 1.0])]
        >>> interquartile_difference([3.0 + x for x in runs], runs, num_resamples=10)
        Aggregate(iqm=3.0, low=3.0, high=3.0)
    """
    tables = [_table(theirs), _table(ours)]
    if tables[0].shape != tables[1].shape:
        raise ValueError(
            f"interquartile_difference pairs runs on the same optimizees; it got "
            f"{tables[0].shape} and {tables[1].shape} (tasks, runs of each)."
        )
    above = np.subtract(*(stats.trim_mean(table.ravel(), 0.25) for table in tables))
    samples = np.subtract(*_resampled(tables, num_resamples, seed))
    return Aggregate(float(above), *np.percentile(samples, [2.5, 97.5]).tolist())


def _table(by_task: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> np.ndarray:
    values = list(by_task.values()) if isinstance(by_task, Mapping) else list(by_task)
    return np.stack([np.asarray(v, np.float64) for v in values])


def _resampled(tables: Sequence[np.ndarray], num_resamples: int, seed: int) -> list[np.ndarray]:
    """Interquartile means of bootstrap samples, the same runs of each task drawn for all tables."""
    shape = tables[0].shape
    rows = np.random.default_rng(seed).integers(0, shape[1], (num_resamples, *shape))
    drawn = [np.take_along_axis(table[None], rows, axis=2) for table in tables]
    return [stats.trim_mean(each.reshape(num_resamples, -1), 0.25, axis=1) for each in drawn]


def profile(values: Sequence[np.ndarray], thresholds: np.ndarray) -> np.ndarray:
    """The share of runs at or below each threshold (Dolan & More 2002).

    Example:
        >>> profile([np.array([0.5, 2.0])], np.array([0.4, 1.0, 3.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    runs = np.concatenate([np.ravel(v) for v in values])
    return (runs[None] <= np.asarray(thresholds)[:, None]).mean(axis=1)


def speed_up(losses: np.ndarray, steps: Sequence[float], envelope: Sequence[float]) -> np.ndarray:
    """How many times as many steps the best of the published baselines takes to as low a loss.

    The curve is smoothed as the published ones are (Metz et al. 2022, arXiv:2211.09760): means of
    ten steps, then an exponential average of decay 0.95. The published curve never rises, so the
    step at which it passes our last value is read off it, between its points linearly.

    Args:
        losses: `[num_tasks, T + 1]`.
        steps, envelope: the published curve.

    Returns:
        `[num_tasks]`: that step over T; the curve's last step over T where it never gets as low.
        Above 1: faster than the best-tuned Adam family.

    Example:
        >>> flat = np.full((1, 101), 0.5)
        >>> speed_up(flat, [0, 100, 400], [1.0, 0.75, 0.25]).tolist()  # 0.5 at step 250
        [2.5]
    """
    losses = np.asarray(losses, np.float64)
    length = losses.shape[1] - 1
    blocks = losses[:, 1 : 1 + length // EVERY * EVERY].reshape(len(losses), -1, EVERY).mean(2)
    smooth = blocks[:, 0]
    for column in blocks.T[1:]:
        smooth = SMOOTHING * smooth + (1 - SMOOTHING) * column
    curve = np.minimum.accumulate(np.asarray(envelope, np.float64))
    worst, best = curve[0], curve[-1]
    smooth = np.minimum(np.where(np.isfinite(smooth), smooth, worst), worst)
    # Where the curve ends flat, it is as low as its end from there on, and never lower.
    reached = np.interp(smooth, curve[::-1], np.asarray(steps, np.float64)[::-1])
    return np.where(smooth < best, steps[-1], reached) / length
