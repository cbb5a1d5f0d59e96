"""Whether a learned optimizer is worth using: beside another one, and in one sentence."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from l2ljax.evaluation import Curve, mean_ci95

Level = Literal["better", "level", "worse", "unknown"]

FLOOR = 1e-6
"""Share of the mean loss at the start below which an optimizee counts as solved: lower final losses
are raised to it, so that no ratio is decided by rounding."""


class Standing(NamedTuple):
    """How one optimizer's final losses stand to another's on the same optimizees.

    Attributes:
        level: "better" or "worse" where the 95 % interval of the paired comparison is apart from a
            tie, "level" where it is not, "unknown" where there is none.
        ratio: geometric mean of the ratios of final losses, above `FLOOR`; `None` where losses are
            negative, or not finite.
        difference: mean of the differences, or `None`.
        ci95: interval of the ratio, or of the difference where there is no ratio.
        nonfinite: optimizees whose final loss is not finite, this one's and the other's. Fewer is
            better, whatever the others' losses are.
    """

    level: Level
    ratio: float | None
    difference: float | None
    ci95: tuple[float, float]
    nonfinite: tuple[int, int]


def standing(own: Curve, other: Curve) -> Standing:
    """Of `own` beside `other`, both of the same draws.

    Example:
        >>> losses = np.array([[1.0, 0.1], [1.0, 0.2], [1.0, 0.1], [1.0, 0.3], [1.0, 0.2]])
        >>> found = standing(Curve(None, losses / 2), Curve(0.1, losses))
        >>> found.level, round(found.ratio, 3)
        ('better', 0.5)
    """
    a, b = own.losses[:, -1], other.losses[:, -1]
    lost = int((~np.isfinite(a)).sum()), int((~np.isfinite(b)).sum())
    if any(lost):
        level = "unknown" if lost[0] == lost[1] else "better" if lost[0] < lost[1] else "worse"
        return Standing(level, None, None, (np.nan, np.nan), lost)
    difference = float((a - b).mean())
    starts = np.concatenate([own.losses[:, 0], other.losses[:, 0]])
    if min(a.min(), b.min(), starts.min()) < 0 or not np.isfinite(starts).all():
        low, high = (float(end) for end in mean_ci95(a - b, own.clusters))
        return Standing(_level(low, high), None, difference, (low, high), lost)
    floor = max(FLOOR * float(starts.mean()), float(np.finfo(np.float64).tiny))
    logs = np.log(np.maximum(a, floor)) - np.log(np.maximum(b, floor))
    low, high = (float(end) for end in mean_ci95(logs, own.clusters))
    ends = float(np.exp(low)), float(np.exp(high))
    return Standing(_level(low, high), float(np.exp(logs.mean())), difference, ends, lost)


def _level(low: float, high: float) -> Level:
    if np.isnan(low):
        return "unknown"
    return "better" if high < 0 else "worse" if low > 0 else "level"


def best_of(curves: Mapping[str, Curve]) -> str:
    """The one with the fewest final losses that are not finite, then the least mean of them.

    Example:
        >>> low, high = (Curve(0.1, np.array([[1.0, end]])) for end in (0.2, 0.3))
        >>> best_of({"high": high, "low": low})
        'low'
    """

    def rank(name: str) -> tuple[int, float]:
        finals = curves[name].losses[:, -1]
        finite = finals[np.isfinite(finals)]
        return len(finals) - len(finite), float(finite.mean()) if len(finite) else np.inf

    return min(curves, key=rank)


WORTH = {
    "better": "Worth using",
    "level": "Not worth using",
    "worse": "Not worth using",
    "unknown": "Not known to be worth using",
}


def sentence(
    curves: Mapping[str, Curve], start: str, changed: bool, untuned: Sequence[str] = ()
) -> tuple[Level, str]:
    """How "adapted" stands to the best of the baselines, and the verdict in one sentence.

    Args:
        curves: "start", "adapted" and baselines, of the same draws.
        start: what the sentence calls the weights that adapting began with.
        changed: whether the adapted ones are others.
        untuned: baselines that are not among the curves, for want of time.
    """
    own = curves["adapted"]
    baselines = {name: c for name, c in curves.items() if name not in ("start", "adapted")}
    best = best_of(baselines)
    beside = standing(own, baselines[best])
    called = f"the best tuned baseline, {best} at {baselines[best].learning_rate:.3g}"
    began = (
        f"and {_words(standing(own, curves['start']), start)}"
        if changed
        else f"and no meta-update was better by validation than {start}, which is kept unchanged"
    )
    missing = f"; no time was left to tune {', '.join(untuned)}" if untuned else ""
    text = (
        f"{WORTH[beside.level]}: over {len(own.losses)} fresh optimizees of "
        f"{own.losses.shape[1] - 1} steps it is {_words(beside, called)}, {began}{missing}."
    )
    return beside.level, text


def _words(found: Standing, other: str) -> str:
    than = {"better": "better than", "worse": "worse than", "level": "level with"}
    told = than.get(found.level, "not to be told from")
    if any(found.nonfinite):
        figures = f"{found.nonfinite[0]} final losses not finite against {found.nonfinite[1]}"
    elif found.ratio is not None:
        figures = f"{found.ratio:.3g} times its final loss{_interval(found)}"
    else:
        figures = f"final loss {found.difference:+.3g} beside it{_interval(found)}"
    return f"{told} {other} ({figures})"


def _interval(found: Standing) -> str:
    if np.isnan(found.ci95[0]):
        return ", too few optimizees for an interval"
    return f", 95 % interval {found.ci95[0]:.3g} to {found.ci95[1]:.3g}"
