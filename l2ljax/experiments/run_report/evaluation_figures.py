"""Evaluations of runs beside their tuned baselines, those of one setting in one figure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from l2ljax.evaluation.page import Figure, Line, curve_traces, number
from l2ljax.evaluation.report import LABELS, flags
from l2ljax.experiments.run_report.groups import Group, sampled, spread, thinned
from l2ljax.experiments.run_report.runs import Evaluation, Run, learned_in
from l2ljax.experiments.run_report.training_figures import cell, ends, log_choice


class Beside(NamedTuple):
    """One figure of evaluations, the table of their ends, and what to doubt in them."""

    figure: Figure
    heading: list[str]
    rows: list[list[str]]
    doubts: list[str]


def evaluations(groups: Sequence[Group]) -> list[Beside]:
    """One for each setting (task and its arguments, optimizees, steps) of runs' evaluations."""
    settings: dict[tuple, list[Group]] = {}
    for group in groups:
        for setting in {run.evaluation.setting: 0 for run in group.runs if run.evaluation}:
            mine = [r for r in group.runs if r.evaluation and r.evaluation.setting == setting]
            settings.setdefault(setting, []).append(group._replace(runs=mine))
    tasks = [_of(members[0].runs[0]).summary for members in settings.values()]
    return [_beside(i, members, tasks) for i, members in enumerate(settings.values())]


def _named(summary: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]]) -> str:
    """The task, and its arguments where another of this name has others."""
    name, mine = summary["task"], summary["task_arguments"]
    others = [other["task_arguments"] for other in tasks if other["task"] == name]
    told = [k for k in mine if any(k not in other or other[k] != mine[k] for other in others)]
    return " ".join([str(name), *(f"{key}={mine[key]}" for key in told)])


def _beside(index: int, groups: Sequence[Group], tasks: Sequence[Mapping[str, Any]]) -> Beside:
    runs = [run for group in groups for run in group.runs]
    summary = _of(runs[0]).summary
    lines = _lines(groups, alone=len(runs) == 1)
    traces, legend = curve_traces(lines)
    whole = [line for line in lines if not line.thin]
    curves = [(line.name, np.asarray(line.x), np.asarray(line.y)) for line in whole]
    heading, rows = sampled(curves, "inner step")
    positive, wide = log_choice([line.y for line in whole])
    sentence = (
        f"Mean loss over {summary['num_tasks']:,} fresh optimizees at each of "
        f"{summary['num_steps']:,} inner steps; learning rates of the baselines are tuned on "
        "others. "
    )
    sentence += (
        "Bands are 95 % confidence intervals of the mean."
        if len(runs) == 1
        else "A line that sums up several runs is the median of their means, in a band from the "
        "lowest to the highest; the band of any other is its 95 % confidence interval."
    )
    if len(runs) == 1:
        sentence += f" {_verdict(_of(runs[0]))}"
    task = _named(summary, tasks)
    figure = Figure(
        id=f"evaluation-{index}",
        title=f"Evaluation on {task}",
        sentence=sentence,
        alt=f"Line chart of the loss against inner steps on {task}: {ends(whole)}.",
        x="inner step",
        y="loss",
        traces=traces,
        legend=legend,
        table=(heading, [[number(row[0]), *map(cell, row[1:])] for row in rows]),
        log_y=wide if positive else None,
        log_x=False,
    )
    doubts = [
        f"{run.name}: {line}" if len(runs) > 1 else line
        for run in runs
        for line in flags(_of(run).summary)
    ]
    return Beside(figure, *_finals(runs), doubts)


def _verdict(evaluation: Evaluation) -> str:
    """How the learned ones end beside the best baseline, in words."""
    ends = {
        name: row["final_loss"]["mean"]
        for name, row in evaluation.summary["optimizers"].items()
        if row["final_loss"]["mean"] is not None
    }
    learned = [name for name in learned_in(evaluation.summary) if name in ends]
    hand_made = {name: ends[name] for name in ends if name not in learned}
    if not learned or not hand_made:
        return ""
    best = min(hand_made, key=lambda name: hand_made[name])
    told = ", ".join(f"{LABELS.get(n, n)} ends at {number(ends[n], 3)}" for n in learned)
    return (
        f"{told}; of the baselines {LABELS.get(best, best)} ends lowest, at "
        f"{number(ends[best], 3)}."
    )


def _of(run: Run) -> Evaluation:
    assert run.evaluation is not None
    return run.evaluation


def _lines(groups: Sequence[Group], alone: bool) -> list[Line]:
    """Learned ones by run or seeds, baselines over all runs; the first learned one is the first."""
    found: list[Line] = []
    runs = [run for group in groups for run in group.runs]
    for group in groups:
        for name in dict.fromkeys(n for r in group.runs for n in learned_in(_of(r).summary)):
            mine = [run for run in group.runs if name in _of(run).summary["optimizers"]]
            shown = LABELS.get(name, name)
            title = shown if alone else f"{group.name}: {shown}"
            found.append(_line(title, name, mine, len(found)))
    first = _of(runs[0]).summary["optimizers"]
    for name in [name for name, row in first.items() if row["learning_rate"] is not None]:
        mine = [run for run in runs if name in _of(run).summary["optimizers"]]
        rates = {_of(run).summary["optimizers"][name]["learning_rate"] for run in mine}
        rate = f", rate {rates.pop():.3g}" if len(rates) == 1 else ""
        found.append(_line(f"{LABELS.get(name, name)}{rate}", name, mine, len(found)))
    return found


def _line(title: str, name: str, runs: Sequence[Run], look: int) -> Line:
    """Of one run with its interval, of several with their extremes."""
    columns = [_of(run).columns for run in runs]
    step = columns[0]["step"]
    means = [one[f"{name}_mean"] for one in columns]
    if len(means) > 1:
        total = spread([(one["step"], mean) for one, mean in zip(columns, means, strict=True)])
        if total is not None and (total.low < total.high).any():
            at, middle = thinned(total.x, total.middle)
            ends = (thinned(total.x, end)[1] for end in (total.low, total.high))
            return Line(title, at, middle, *ends, look=look)
    nothing = np.full(len(step), np.nan)
    low, high = (columns[0].get(f"{name}_ci95_{end}", nothing) for end in ("low", "high"))
    mean, median = means[0], columns[0].get(f"{name}_median", means[0])
    if np.isfinite(median).sum() > np.isfinite(mean).sum():  # as the figure of `evaluate`
        mean, title, low, high = median, f"{title} (median)", nothing, nothing
    at, values = thinned(step, mean)
    band = [thinned(step, end)[1] for end in (low, high)] if np.isfinite(high).any() else []
    return Line(title, at, values, *band, look=look)


def _finals(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Each optimizer of each run: rate, final loss and interval, median, mean loss, diverged."""
    heading = ["optimizer", "rate", "final loss", "95 % interval", "median", "mean loss"]
    heading.append("diverged")
    rows = []
    for run in runs:
        for name, row in _of(run).summary["optimizers"].items():
            final = row["final_loss"]
            ends = final.get("ci95") or [None, None]
            shown = LABELS.get(name, name)
            rows.append(
                [
                    shown if len(runs) == 1 else f"{run.name}: {shown}",
                    "learned" if row["learning_rate"] is None else number(row["learning_rate"], 3),
                    number(final["mean"]),
                    "-" if None in ends else f"{number(ends[0])} to {number(ends[1])}",
                    number(final.get("median")),
                    number(row.get("mean_loss")),
                    str(row.get("diverged", "-")),
                ]
            )
    return heading, rows
