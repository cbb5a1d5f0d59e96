"""Several runs side by side: which are repetitions of one another, and what sums those up."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from l2ljax.evaluation.statistics import median_of
from l2ljax.experiments.run_report.runs import Run

MOST_POINTS = 400
"""Of a curve of more, so many means of neighbours are shown."""


class Group(NamedTuple):
    """Runs of one configuration but for the seed; one alone is a group, too.

    Attributes:
        name: of the run, or of what sums them up.
        runs: at least one.
    """

    name: str
    runs: list[Run]

    @property
    def several(self) -> bool:
        """Whether there is a spread to show."""
        return len(self.runs) > 1


class Spread(NamedTuple):
    """Median of several curves with the lowest and the highest at each x, `[n]` each."""

    x: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Runs whose configurations differ in nothing but the seed belong together."""
    found: dict[object, list[Run]] = {}
    for run in runs:
        found.setdefault(run.seedless or id(run), []).append(run)
    return [Group(_name(members), members) for members in found.values()]


def _name(runs: Sequence[Run]) -> str:
    names = [run.name for run in runs]
    if len(names) == 1:
        return names[0]
    told = f"{names[0]} … {names[-1]}" if len(names) > 2 else " and ".join(names)
    seeds = {(run.config or {}).get("seed") for run in runs}
    return f"{told}: median of {len(names)} {'seeds' if len(seeds) == len(names) else 'runs'}"


def spread(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> Spread | None:
    """Median and extremes at the x that all curves have; `None` if there are none.

    A value that is not finite counts as the worst.

    Example:
        >>> x = np.arange(3.0)
        >>> found = spread([(x, x), (x, 2 * x), (x[1:], 4 * x[1:])])
        >>> found.x.tolist(), found.middle.tolist(), found.high.tolist()
        ([1.0, 2.0], [2.0, 4.0], [4.0, 8.0])
    """
    common = curves[0][0]
    for x, _ in curves[1:]:
        common = np.intersect1d(common, x)
    if not len(common):
        return None
    values = np.stack([y[np.searchsorted(x, common)] for x, y in curves])
    worst = np.where(np.isnan(values), np.inf, values)
    return Spread(common, median_of(values), worst.min(axis=0), worst.max(axis=0))


def thinned(x: np.ndarray, y: np.ndarray, number: int = MOST_POINTS) -> tuple:
    """As many means of neighbours at most; their x is that of the last of each.

    Example:
        >>> thinned(np.arange(1.0, 5.0), np.array([1.0, 3.0, 5.0, 7.0]), 2)
        (array([2., 4.]), array([2., 6.]))
    """
    if len(x) <= number:
        return x, y
    parts = np.array_split(np.arange(len(x)), number)
    return np.array([x[p[-1]] for p in parts]), np.array([y[p].mean() for p in parts])


def sampled(
    curves: Sequence[tuple[str, np.ndarray, np.ndarray]], of: str, number: int = 20
) -> tuple[list[str], list[list[float | None]]]:
    """Heading and rows of a table: some x, and each curve's newest value there.

    Args:
        curves: name, x (rising), y.
        of: what x is.
        number: of rows.

    Returns:
        numbers, with `None` where a curve has no value yet.

    Example:
        >>> x = np.array([1.0, 2.0, 3.0])
        >>> sampled([("a", x, 10 * x), ("b", x[1:], x[1:])], "step")
        (['step', 'a', 'b'], [[1.0, 10.0, None], [2.0, 20.0, 2.0], [3.0, 30.0, 3.0]])
    """
    every = np.unique(np.concatenate([x for _, x, _ in curves])) if curves else np.zeros(0)
    chosen = every[np.unique(np.linspace(0, len(every) - 1, number).round().astype(int))]
    rows = []
    for at in chosen if len(every) else []:
        row: list[float | None] = [float(at)]
        for _, x, y in curves:
            index = int(np.searchsorted(x, at, side="right")) - 1
            row.append(float(y[index]) if index >= 0 else None)
        rows.append(row)
    return [of, *(name for name, _, _ in curves)], rows
