"""The board's cells -> tables and one file of figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l2ljax.bundled.ready import DEFAULT
from l2ljax.evaluation.aggregate import interquartile_difference, interquartile_mean
from l2ljax.experiments.board import read_cell
from l2ljax.experiments.board_ratios import REFERENCE, Cells, task_ratios
from l2ljax.experiments.board_standings import standings
from l2ljax.tasks.suite import ENTRIES

FIRST = DEFAULT
"""From which the distances of others are taken."""

LEVEL = 1.0
"""A task is won where the median ratio is at or below it."""


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


def check_folder(folder: Path, num_tasks: int, seed: int) -> None:
    """Refuses a folder whose cells could not be drawn together with such ones.

    Raises:
        ValueError: as `read_cells`, and for cells of other optimizees than these.
    """
    for cell in list(read_cells(folder).values())[:1]:
        if (cell["num_tasks"], cell["seed"]) != (num_tasks, seed):
            raise ValueError(
                f"The cells in {folder} are of {cell['num_tasks']} optimizees with seed "
                f"{cell['seed']}, and {num_tasks} with seed {seed} are asked for; give these a "
                "folder of their own."
            )


def one_file(cells: Cells) -> str:
    """All cells as one JSON list, curves' medians to three digits: as much as pictures show.

    Example:
        >>> curve = {"steps": [1.0, 2.0], "median": [0.123456, None], "low": [0.1, None]}
        >>> one_file({(9, "t", "o"): {"task": "t", "curve": curve}})
        '[{"task":"t","curve":{"steps":[1,2],"median":[0.123,null]}}]\\n'
    """

    def short(curve: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        steps = [int(x) if x == int(x) else float(x) for x in curve["steps"]]
        middle = [None if x is None else float(f"{x:.3g}") for x in curve["median"]]
        return {"steps": steps, "median": middle}

    brief = [{**cell, "curve": short(cell["curve"])} for cell in cells.values()]
    return json.dumps(brief, separators=(",", ":")) + "\n"


def rows(cells: Cells, num_steps: int, split: str) -> list[dict[str, Any]]:
    """One row an optimizer, best first: aggregates over the tasks that it has cells of.

    Each has `optimizer`, `group`, `tasks`, `iqm` and its interval `ci95`, `median`, `won` (tasks
    whose median ratio is at or below 1), `diverged` (optimizees), `speed_up` (interquartile mean
    over tasks with an envelope, `None` unless all of them were measured by it), and `above` (how
    far `iqm` is above that of the default, on whose tasks and optimizees it was, with its
    interval).
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
        fast = [c.get("speed_up") for c in mine if ENTRIES[c["task"]].envelope]
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
                "speed_up": interquartile_mean(list(map(np.array, fast))).iqm
                if fast and all(fast)
                else None,
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
        if not compared(cells, num_steps):
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
                parts.append(standings(cells, num_steps, split, table, names))
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


def compared(cells: Cells, num_steps: int) -> list[str]:
    """The sides on which tuned Adam has a cell of so many steps."""
    return sorted({ENTRIES[t].split for n, t, o in cells if (n, o) == (num_steps, REFERENCE)})
