"""What else the board says of its optimizers: wins by task, other tasks, last parameters, gaps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from l2ljax.evaluation.aggregate import Aggregate, interquartile_mean
from l2ljax.evaluation.statistics import LEAST, mean_ci95
from l2ljax.experiments.board_ratios import REFERENCE, Cells, task_ratios

LEAST_TASKS = 5
"""That one which is not ranked has cells of, to be compared with others on those."""

Ratios = Mapping[str, np.ndarray]


def standings(
    cells: Cells,
    num_steps: int,
    split: str,
    table: Sequence[Mapping[str, Any]],
    ranked: Sequence[str],
) -> str:
    """Three tables, of those that are ranked.

    Args:
        cells: the board's.
        num_steps, split: which.
        table: `board_page.rows` of these: one row an optimizer with a cell.
        ranked: names of those that have met every task, tuned Adam left out, best first.

    Returns:
        Markdown. Wins by task need as many optimizees as an interval does.
    """
    groups = {row["optimizer"]: row["group"] for row in table}
    totals = {row["optimizer"]: Aggregate(row["iqm"], *row["ci95"]) for row in table}
    found = {name: task_ratios(cells, num_steps, name, split) for name in groups}
    ours = [name for name in ranked if groups[name] == "learned"]
    others = [REFERENCE, *(name for name in ranked if groups[name] != "learned")]
    lacking = [
        name
        for name in groups
        if name not in (*ranked, REFERENCE) and len(found[name]) >= LEAST_TASKS
    ]
    last = {
        name: interquartile_mean(task_ratios(cells, num_steps, name, split, "expected_loss"))
        for name in ranked
    }
    parts = [_other_measures(found, totals, last)]
    if ours and len(next(iter(found[ours[0]].values()))) >= LEAST:
        parts.append(_wins({name: found[name] for name in (*ours, *others)}, ours, others))
    if lacking:
        parts.append(_on_tasks_of({name: found[name] for name in (*ranked, *lacking)}, lacking))
    return "\n".join(parts)


def better_level_worse(ours: Ratios, theirs: Ratios) -> tuple[int, int, int]:
    """On how many tasks ours ends lower, level and higher: by the mean log ratio's 95 % interval.

    Args:
        ours, theirs: task -> losses over tuned Adam's, `[num_tasks]`, of the same optimizees.

    Example:
        >>> low, high = (np.full(8, x) for x in (0.5, 1.0))
        >>> better_level_worse({"a": low, "b": high}, {"a": high, "b": high})
        (1, 1, 0)
    """
    counts = [0, 0, 0]
    for task in [task for task in ours if task in theirs]:
        low, high = mean_ci95(np.log(ours[task]) - np.log(theirs[task]))
        counts[0 if high < 0 else 2 if low > 0 else 1] += 1
    return counts[0], counts[1], counts[2]


def tasks_resampled(found: Ratios, num_resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the interquartile mean over other tasks of the same kind.

    Args:
        found: task -> losses over tuned Adam's, `[num_tasks]`, as many of each.
        num_resamples, seed: of the bootstrap, which draws whole tasks with replacement.
    """
    draw, table = np.random.default_rng(seed), np.stack(list(found.values()))
    means = [
        stats.trim_mean(table[draw.integers(len(table), size=len(table))].ravel(), 0.25)
        for _ in range(num_resamples)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _other_measures(
    found: Mapping[str, Ratios], totals: Mapping[str, Aggregate], last: Mapping[str, Aggregate]
) -> str:
    lines = ["| optimizer | last 5 % of the steps | tasks resampled | last parameters |"]
    lines.append("| --- | --- | --- | --- |")
    for name, of_last in last.items():
        low, high = tasks_resampled(found[name])
        lines.append(
            f"| {name} | {_told(totals[name])} | {low:.2f} ... {high:.2f} | {_told(of_last)} |"
        )
    return "By another measure, and with tasks resampled in place of runs:\n\n" + _text(lines)


def _wins(found: Mapping[str, Ratios], ours: Sequence[str], others: Sequence[str]) -> str:
    lines = [
        f"| better, level, worse than | {' | '.join(others)} |",
        "| --- " * (len(others) + 1) + "|",
    ]
    for name in ours:
        counts = [better_level_worse(found[name], found[other]) for other in others]
        lines.append(f"| {name} | {' | '.join(', '.join(map(str, c)) for c in counts)} |")
    return "Tasks on which one ends lower than another, level, higher:\n\n" + _text(lines)


def _on_tasks_of(found: Mapping[str, Ratios], lacking: Sequence[str]) -> str:
    """Those that are not ranked, and all others on the tasks that they have met."""
    lines = [f"| on the tasks of | {' | '.join(f'{n} ({len(found[n])})' for n in lacking)} |"]
    lines.append("| --- " * (len(lacking) + 1) + "|")
    for name, mine in found.items():
        told = []
        for other in lacking:
            both = {task: mine[task] for task in found[other] if task in mine}
            whole = len(both) == len(found[other])
            told.append(_told(interquartile_mean(both)) if whole else "-")
        lines.append(f"| {name} | {' | '.join(told)} |")
    return "On the tasks that those not ranked have cells of:\n\n" + _text(lines)


def _told(found: Aggregate) -> str:
    return f"{found.iqm:.3f} ({found.low:.3f} ... {found.high:.3f})"


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
