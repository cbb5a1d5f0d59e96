"""The board's cells -> its pictures: profiles of ratios, and curves of the best, a panel a task."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from l2ljax.evaluation.aggregate import profile
from l2ljax.evaluation.report import log_labels, new_figure, save_figure, styles
from l2ljax.experiments.board_page import FIRST, compared, ranked, rows
from l2ljax.experiments.board_ratios import REFERENCE, Cells, task_ratios
from l2ljax.tasks.suite import ENTRIES

Looks = Mapping[str, dict[str, Any]]
Table = list[dict[str, Any]]

BESIDE: dict[str, Any] = {"color": "0.45", "linestyle": "-", "linewidth": 1.2}
"""How tuned Adam is drawn: it is in every picture, and no learned optimizer's colour is near."""


def draw(cells: Cells, folder: Path) -> list[Path]:
    """Writes a profile and small multiples of the curves where tuned Adam has a cell."""
    tables = {
        (num_steps, split): ranked(rows(cells, num_steps, split))
        for num_steps in sorted({steps for steps, _, _ in cells})
        for split in compared(cells, num_steps)
    }
    made, looks = [], _looks(tables.values())
    for (num_steps, split), table in tables.items():
        if split == "held_out":
            made.append(_draw_profile(cells, num_steps, shown(table, 10), folder, looks))
        made.append(_draw_curves(cells, num_steps, split, shown(table, 9), folder, looks))
    return made


def shown(table: Table, number: int) -> Table:
    """The best so many rows, of which one is tuned Adam's, best first."""
    others = [row for row in table if row["optimizer"] != REFERENCE][: number - 1]
    return [row for row in table if row in others or row["optimizer"] == REFERENCE]


def _draw_profile(cells: Cells, num_steps: int, table: Table, folder: Path, looks: Looks) -> Path:
    figure, panels = new_figure(size=(7, 4.5))
    axes, thresholds = panels[0][0], np.geomspace(0.1, 10, 200)
    for row in table:
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


def _looks(tables: Iterable[Table]) -> Looks:
    """A style each, the same in every picture; the default's first, then bundled ones."""
    groups = {row["optimizer"]: row["group"] for table in tables for row in table}

    def place(name: str) -> tuple[bool, bool, str]:
        return groups[name] != "learned", name != FIRST, name

    return styles(sorted(groups.keys() - {REFERENCE}, key=place)) | {REFERENCE: BESIDE}


def _draw_curves(
    cells: Cells, num_steps: int, split: str, table: Table, folder: Path, looks: Looks
) -> Path:
    """Two panels a row, so that a phone shows them at a size that can be read."""
    optimizers = [row["optimizer"] for row in table]
    names = [
        name
        for name, entry in ENTRIES.items()
        if entry.split == split and (num_steps, name, REFERENCE) in cells
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
    look = {"frameon": False, "ncols": 3, "handlelength": 3.2}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", **look)
    path = folder / f"curves{'-train' * (split == 'train')}-{num_steps}.png"
    save_figure(figure, path, dpi=100)
    return path


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
