"""The board's cells -> tables, pictures and one file of figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l2ljax.bundled.ready import DEFAULT
from l2ljax.evaluation.aggregate import (
    interquartile_difference,
    interquartile_mean,
    profile,
    ratios,
)
from l2ljax.evaluation.report import log_labels, new_figure, save_figure, styles
from l2ljax.experiments.board import read_cell
from l2ljax.tasks.suite import ENTRIES

REFERENCE = "adam"
"""Tuned Adam, which all others are divided by."""

FIRST = DEFAULT
"""What has the first style, and from which the distances of others are taken."""

LEVEL = 1.0
"""A task is won where the median ratio is at or below it."""

Cells = Mapping[tuple[int, str, str], Mapping[str, Any]]
Looks = Mapping[str, dict[str, Any]]


def read_cells(folder: Path) -> dict[tuple[int, str, str], dict[str, Any]]:
    """(steps, task, optimizer) -> what the cell's file holds.

    Raises:
        ValueError: for a damaged cell, naming its file, and for cells of different optimizees.
    """
    each = map(read_cell, sorted(folder.glob("T*/*/*.json")))
    found = {(cell["num_steps"], cell["task"], cell["optimizer"]): cell for cell in each}
    kinds = sorted({(cell["num_tasks"], cell["seed"]) for cell in found.values()})
    if len(kinds) > 1:
        told = ", ".join(f"{number} optimizees with seed {seed}" for number, seed in kinds)
        raise ValueError(
            f"The cells in {folder} are of {told}: they can't be compared; give each kind a folder "
            "of its own."
        )
    return found


def one_file(cells: Cells) -> str:
    """All cells as one JSON list, losses of their curves to three digits: more than pictures show.

    Example:
        >>> one_file({(9, "t", "o"): {"task": "t", "curve": {"median": [0.123456, None]}}})
        '[{"task":"t","curve":{"median":[0.123,null]}}]\\n'
    """

    def short(name: str, values: list[float | None]) -> list[float | None]:
        digits = 6 if name == "steps" else 3
        return [None if x is None else float(f"{x:.{digits}g}") for x in values]

    brief = [
        {**cell, "curve": {name: short(name, each) for name, each in cell["curve"].items()}}
        for cell in cells.values()
    ]
    return json.dumps(brief, separators=(",", ":")) + "\n"


def task_ratios(cells: Cells, num_steps: int, optimizer: str, split: str) -> dict[str, np.ndarray]:
    """Task -> final losses relative to tuned Adam's, where both cells are there."""
    found = {}
    for name, entry in ENTRIES.items():
        ours = cells.get((num_steps, name, optimizer))
        reference = cells.get((num_steps, name, REFERENCE))
        if entry.split == split and ours is not None and reference is not None:
            start = np.array(ours["start"], np.float64)
            found[name] = ratios(_final(ours), _final(reference), start, entry.floor)
    return found


def _final(cell: Mapping[str, Any]) -> np.ndarray:
    return np.array([np.nan if x is None else x for x in cell["final_loss"]], np.float64)


def rows(cells: Cells, num_steps: int, split: str) -> list[dict[str, Any]]:
    """One row an optimizer, best first: aggregates over the tasks that it has cells of.

    Each has `optimizer`, `group`, `tasks`, `iqm` and its interval `ci95`, `median`, `won` (tasks
    whose median ratio is at or below 1), `diverged` (optimizees), `speed_up` (interquartile mean,
    over tasks with an envelope), and `above` (how far `iqm` is above that of the default, on whose
    tasks and optimizees it was, with its interval).
    """
    names = sorted({name for steps, _, name in cells if steps == num_steps})
    first = task_ratios(cells, num_steps, FIRST, split)
    table = []
    for name in names:
        found = task_ratios(cells, num_steps, name, split)
        if not found:
            continue
        mine = [cells[num_steps, task, name] for task in found]
        total = interquartile_mean(found)
        fast = [np.array(c["speed_up"], np.float64) for c in mine if c.get("speed_up")]
        table.append(
            {
                "optimizer": name,
                "group": mine[0]["group"],
                "tasks": len(found),
                "iqm": total.iqm,
                "ci95": [total.low, total.high],
                "median": float(np.median(np.concatenate(list(found.values())))),
                "won": sum(float(np.median(x)) <= LEVEL for x in found.values()),
                "diverged": sum(c["diverged"] for c in mine),
                "speed_up": interquartile_mean(fast).iqm if fast else None,
                "above": interquartile_difference(found, first)
                if name != FIRST and found.keys() == first.keys()
                else None,
            }
        )
    return sorted(table, key=lambda row: row["iqm"])


def markdown(table: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    heads = ("optimizer", "tasks", "loss / Adam's (IQM)", "95 %", "median", "won", "diverged")
    heads = (*heads, "speed-up", f"above {FIRST}, paired")
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in table:
        fast = "-" if row["speed_up"] is None else f"{row['speed_up']:.2f}"
        low, high = row["ci95"]
        above = "-" if row["above"] is None else "{:.3f} ({:.3f} ... {:.3f})".format(*row["above"])
        lines.append(
            f"| {row['optimizer']} | {row['tasks']} | {row['iqm']:.3f} | {low:.3f} ... {high:.3f} "
            f"| {row['median']:.3f} | {row['won']} | {row['diverged']} | {fast} | {above} |"
        )
    return "\n".join(lines) + "\n"


def page(cells: Cells) -> str:
    """All tables: each number of steps, held-out tasks before training ones, tuned apart.

    Only those with a cell of every task that tuned Adam has are ranked, so that all in a table met
    the same tasks; who lacks some is named below with how many it has.
    """
    parts = []
    for num_steps in sorted({steps for steps, _, _ in cells}):
        if not _compared(cells, num_steps):
            parts.append(
                f"Nothing to compare at {num_steps} steps: tuned Adam, which all are divided by, "
                f"has no cell; run --optimizers={REFERENCE} --steps={num_steps} too.\n"
            )
        for split, title in (("held_out", "held-out tasks"), ("train", "training tasks")):
            table = rows(cells, num_steps, split)
            whole = ranked(table)
            for tuned in (False, True):
                mine = [row for row in whole if (row["group"] == "tuned") == tuned]
                if mine:
                    kind = "tuned on each task" if tuned else "untuned"
                    parts.append(f"## {num_steps} steps, {title}, {kind}\n\n{markdown(mine)}")
            gaps = [f"{row['optimizer']} ({row['tasks']})" for row in table if row not in whole]
            if gaps:
                most = whole[0]["tasks"] if whole else 0
                parts.append(
                    f"Not ranked, with cells of fewer than {most} tasks: {', '.join(gaps)}.\n"
                )
            names = [row["optimizer"] for row in whole if row["optimizer"] != REFERENCE]
            if names:
                parts.append(by_task(cells, num_steps, split, names))
    return "\n".join(parts)


def ranked(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that have met every task that tuned Adam has."""
    most = max([row["tasks"] for row in table if row["optimizer"] == REFERENCE], default=0)
    return [row for row in table if row["tasks"] == most]


def by_task(cells: Cells, num_steps: int, split: str, names: Sequence[str]) -> str:
    """A table of median ratios to tuned Adam: a line a task, a column an optimizer."""
    found = {name: task_ratios(cells, num_steps, name, split) for name in names}
    lines = [f"| task | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
    for task in found[names[0]]:
        medians = [f"{np.median(found[name][task]):.3g}" for name in names]
        lines.append(f"| {task} | {' | '.join(medians)} |")
    return "\n".join(lines) + "\n"


def draw(cells: Cells, folder: Path) -> list[Path]:
    """Writes a profile and small multiples of the curves where tuned Adam has a cell."""
    made, looks = [], _looks(cells)
    for num_steps in sorted({steps for steps, _, _ in cells}):
        compared = _compared(cells, num_steps)
        if "held_out" in compared:
            made.append(_draw_profile(cells, num_steps, folder, looks))
        made += [_draw_curves(cells, num_steps, split, folder, looks) for split in compared]
    return made


def _compared(cells: Cells, num_steps: int) -> list[str]:
    """The sides on which tuned Adam has a cell of so many steps."""
    return sorted({ENTRIES[t].split for n, t, o in cells if (n, o) == (num_steps, REFERENCE)})


def _draw_profile(cells: Cells, num_steps: int, folder: Path, looks: Looks) -> Path:
    figure, panels = new_figure(size=(7, 4.5))
    axes, thresholds = panels[0][0], np.geomspace(0.1, 10, 200)
    best = ranked(rows(cells, num_steps, "held_out"))[:10]
    for row in best:
        found = task_ratios(cells, num_steps, row["optimizer"], "held_out")
        tuned = " (tuned on each task)" if row["group"] == "tuned" else ""
        axes.plot(
            thresholds,
            profile(list(found.values()), thresholds),
            label=f"{row['optimizer']}{tuned}",
            **looks[row["optimizer"]],
        )
    axes.axvline(1.0, color="0.5", linewidth=0.8)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.set(
        xscale="log",
        xlabel="final loss relative to tuned Adam's",
        ylabel="share of runs at or below",
        title=f"Held-out tasks, {num_steps} steps",
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes.xaxis.set_major_formatter("{x:g}")
    path = folder / f"profile-{num_steps}.png"
    save_figure(figure, path, dpi=120)
    return path


def _looks(cells: Cells) -> Looks:
    """A style each, the same in every picture; bundled ones first, as in those of evaluations."""
    groups: dict[str, str] = {}
    for num_steps in sorted({steps for steps, _, _ in cells}):
        for split in ("held_out", "train"):
            for row in ranked(rows(cells, num_steps, split)):
                groups[row["optimizer"]] = row["group"]

    def place(name: str) -> tuple[bool, bool, str]:
        return groups[name] != "learned", name != FIRST, name

    return styles(sorted(groups, key=place))


def _draw_curves(cells: Cells, num_steps: int, split: str, folder: Path, looks: Looks) -> Path:
    """Two panels a row, so that a phone shows them at a size that can be read."""
    best = ranked(rows(cells, num_steps, split))[:8]
    optimizers = [row["optimizer"] for row in best]
    names = [
        name
        for name in _with_cells(cells, num_steps)
        if ENTRIES[name].split == split
        and any((num_steps, name, optimizer) in cells for optimizer in optimizers)
    ]
    columns = 2
    height = -(-len(names) // columns)
    figure, grid = new_figure(height, columns, size=(3.6 * columns, 2.5 * height + 0.8))
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for name, axes in zip(names, grid.flat, strict=False):
        for optimizer in optimizers:
            cell = cells.get((num_steps, name, optimizer))
            if cell is not None:
                y = [np.nan if x is None else x for x in cell["curve"]["median"]]
                axes.plot(cell["curve"]["steps"], y, label=optimizer, **looks[optimizer])
        _scale(axes, ENTRIES[name].floor)
        axes.set_title(name)
    for axes in grid[:, 0]:
        axes.set_ylabel("loss")
    for axes in grid.flat[max(0, len(names) - columns) : len(names)]:
        axes.set_xlabel("step")
    handles = {}
    for axes in grid.flat:
        lines, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, lines, strict=True))
    shown = {"frameon": False, "ncols": 3, "handlelength": 3.2}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", **shown)
    path = folder / f"curves{'-train' * (split == 'train')}-{num_steps}.png"
    save_figure(figure, path, dpi=100)
    return path


def _with_cells(cells: Cells, num_steps: int) -> list[str]:
    """Tasks with at least one cell of so many steps, in the suite's order."""
    found = {task for steps, task, _ in cells if steps == num_steps}
    return [name for name in ENTRIES if name in found]


def _scale(axes: Any, floor: float) -> None:
    """Log scales; losses below the floor, where a task counts as solved, are not shown."""
    curves = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    values = np.concatenate([np.zeros(0), *curves])
    values = values[np.isfinite(values) & (values > 0)]
    if len(values):
        start = max(curve[0] for curve in curves)
        log_labels(axes, "y", max(values.min(), floor * start), min(values.max(), 3 * start))
    axes.set_xscale("log")
    axes.grid(alpha=0.25, linewidth=0.5)
