"""Meta-training curves: meta-loss and validation of one or several runs."""

from collections.abc import Sequence

import numpy as np

from l2ljax.evaluation.page import Figure, Line, curve_traces, number
from l2ljax.experiments.run_report.groups import Group, sampled, spread, thinned

KINDS = {
    "meta_loss": (
        "Meta-loss",
        "What training minimises, on optimizees and windows that it draws: it jumps with them.",
    ),
    "validation_loss": (
        "Validation loss",
        "Of whole episodes on the same held-out optimizees; the run keeps its lowest point.",
    ),
}
"""Number in the records -> its name, and what it is."""


def training_figures(groups: Sequence[Group]) -> list[Figure]:
    """One figure for each of `KINDS` that the histories have.

    Raises:
        ValueError: if they have none.
    """
    found = [figure for what in KINDS if (figure := _figure(what, groups)) is not None]
    if not found:
        where = ", ".join(str(run.workdir) for group in groups for run in group.runs)
        raise ValueError(f"The history in {where} has neither meta_loss nor validation_loss.")
    return found


def lines_of(what: str, groups: Sequence[Group]) -> list[Line]:
    """One line a run; of several seeds their median, in a band from the lowest to the highest."""
    found = []
    for look, group in enumerate(groups):
        curves = {run.name: (run, *run.series(what)) for run in group.runs}
        curves = {name: curve for name, curve in curves.items() if len(curve[1])}
        if group.several and len(curves) > 1:
            total = spread([(x, y) for _, x, y in curves.values()])
            if total is not None:
                found.append(_summed_up(group, total, look))
                found += [_one_of(*curve, group.name, look) for curve in curves.values()]
                continue
        for run, x, y in curves.values():
            at, values = thinned(x, y)
            one = Line(run.name, at, values, other=run.seconds_at(at), look=look)
            found.append(one)
            look += len(groups) if group.several else 0  # no median: each its own colour
    return found


def _one_of(run, x, y, group: str, look: int) -> Line:
    at, values = thinned(x, y)
    return Line(f"{group}, each", at, values, other=run.seconds_at(at), look=look, thin=True)


def _summed_up(group: Group, total, look: int) -> Line:
    at, middle = thinned(total.x, total.middle)
    low, high = (thinned(total.x, end)[1] for end in (total.low, total.high))
    times = [run.seconds_at(at) for run in group.runs]
    known = [t for t in times if t is not None]
    other = np.median(known, axis=0) if len(known) == len(times) else None
    return Line(group.name, at, middle, low, high, other, look)


def _figure(what: str, groups: Sequence[Group]) -> Figure | None:
    lines = lines_of(what, groups)
    if not lines:
        return None
    title, sentence = KINDS[what]
    traces, legend = curve_traces(lines)
    timed = all(line.other is not None for line in lines)
    if any(line.low is not None for line in lines):
        sentence += " The band reaches from the lowest run to the highest."
    if timed:
        noted = all(run.times for group in groups for run in group.runs)
        sentence += " Seconds are those of the run, over all resumptions" + (
            "." if noted else "; where none were noted, the total, spread evenly."
        )
    whole = [line for line in lines if not line.thin]
    heading, rows = sampled(
        [(line.name, np.asarray(line.x), np.asarray(line.y)) for line in whole], "meta-update"
    )
    positive, wide = log_choice([line.y for line in lines])
    return Figure(
        id=what.replace("_", "-"),
        title=title,
        sentence=sentence,
        alt=f"Line chart of the {title.lower()} against meta-updates: {ends(whole)}.",
        x="meta-updates",
        y=title.lower(),
        traces=traces,
        legend=legend,
        table=(heading, [[number(row[0]), *map(cell, row[1:])] for row in rows]),
        log_y=wide if positive else None,
        log_x=False,
        other="seconds" if timed else None,
    )


def cell(value: float | None) -> str:
    """A number of a table, or nothing."""
    return "" if value is None else number(value)


def ends(lines: Sequence[Line]) -> str:
    """Where curves begin and end, in words; the first six of them."""

    def one(line: Line) -> str:
        y = np.asarray(line.y, np.float64)
        return f"{line.name} from {number(float(y[0]))} to {number(float(y[-1]))}"

    told = "; ".join(one(line) for line in lines[:6])
    return f"{told}; and {len(lines) - 6} more" if len(lines) > 6 else told


def log_choice(curves: Sequence[Sequence[float] | np.ndarray]) -> tuple[bool, bool]:
    """Whether a log scale can show all that is finite, and whether it should at first."""
    values = np.concatenate([np.asarray(curve, np.float64) for curve in curves])
    values = values[np.isfinite(values)]
    positive = bool(len(values)) and bool((values > 0).all())
    return positive, positive and bool(values.max() / values.min() > 10)
