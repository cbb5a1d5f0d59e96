"""Results for people: the table and the figures.

Figures need matplotlib: `pip install "l2ljax[plots]"`.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from l2ljax.evaluation._drawing import (
    STYLES,
    legend,
    log_labels,
    new_figure,
    save_figure,
    scale,
    shared_legend,
    styles,
)
from l2ljax.evaluation.statistics import LEAST

LABELS = {
    "sgd": "SGD",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "nag": "NAG",
    "lstm": "LSTM",
    "lstm_4x": "LSTM, gradients x 4",
    "lstm_last": "LSTM, last-step loss",
    "lstm_single": "one LSTM",
    "lstm_sub": "LSTM-sub",
    "partition": "two LSTMs",
}
__all__ = [
    "LABELS",
    "STYLES",
    "draw_curves",
    "flags",
    "legend",
    "log_labels",
    "new_figure",
    "save_curves",
    "save_figure",
    "save_panels",
    "scale",
    "shared_legend",
    "styles",
    "table",
]

MOST_POINTS, NUM_AVERAGES = 250, 50
"""Of a curve of more points, so many means of neighbours are drawn: the noise of minibatches would
hide which curve is the lower one."""


def table(summary: Mapping[str, Any]) -> Table:
    """The content of `summary.json` as a table to print; its caption tells what to doubt."""
    what = escape(str(summary["task"]))
    out = Table(  # fits 80 columns
        box=SIMPLE,
        padding=(0, 1),
        pad_edge=False,
        collapse_padding=True,
        title=f"{what}: {summary['num_tasks']} optimizees, {summary['num_steps']} steps",
    )
    out.add_column("optimizer", overflow="fold")  # long names on, not cut
    for heading in ("rate", "final loss", "95 % CI", "median", "mean loss", "diverged"):
        # Where 80 columns do not do, an interval gives way before a name does: it is wider.
        out.add_column(heading, justify="right", no_wrap=heading != "95 % CI")
    for name, row in summary["optimizers"].items():
        final = row["final_loss"]
        out.add_row(
            escape(LABELS.get(name) or name),  # rich reads [brackets] as markup
            "learned" if row["learning_rate"] is None else f"{row['learning_rate']:.3g}",
            _text(final["mean"]),
            "-" if None in final["ci95"] else " to ".join(map(_text, final["ci95"])),
            _text(final["median"]),
            _text(row["mean_loss"]),
            str(row["diverged"]),
        )
    out.caption = escape("\n".join(flags(summary))) or None
    return out


def flags(summary: Mapping[str, Any]) -> list[str]:
    """What a reader of `summary.json` should doubt, a sentence each.

    Example:
        >>> flags({"num_tasks": 9, "optimizers": {"sgd": {"tuning": {"edge": "lowest"}}}})
        ['SGD: the best rate is the lowest of those tried.']
    """
    found, number = [], summary["num_tasks"]
    for name, row in summary["optimizers"].items():
        who = LABELS.get(name, name)
        if edge := row.get("tuning", {}).get("edge"):
            found.append(f"{who}: the best rate is the {edge} of those tried.")
        if row.get("nonfinite"):
            found.append(f"{who}: {row['nonfinite']} of {number} are not finite.")
        if row.get("above_start"):
            found.append(f"{who}: {row['above_start']} of {number} end above their start.")
    return found


def save_curves(directory: str | Path, title: str | None = None, from_step: int = 0) -> None:
    """Draws `curves.png` from `summary.json` and `curves.csv` in `directory`.

    The mean loss of each optimizer over the steps, log scale, with 95 % confidence bands where
    there are optimizees enough; the median where a mean is not finite. Beyond `MOST_POINTS` steps,
    losses and bands are averaged over neighbouring steps.

    Args:
        directory: of both files.
        title: default: the task's name.
        from_step: where to begin; if it is not 0, the file is `curves_from_STEP.png`.
    """
    directory = Path(directory)
    figure, panels = new_figure(size=(6.0, 5.0))
    axes = panels[0][0]
    summary, banded = _plot_curves(axes, directory, from_step, LABELS)
    _title(axes, title or summary["task"], summary, banded)
    save_figure(figure, directory / (f"curves_from_{from_step}.png" if from_step else "curves.png"))


def draw_curves(axes: Any, summary: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> None:
    """Draws what `summary.json` and `curves.csv` hold on `axes`, as `save_curves` does."""
    banded = _plot_columns(axes, summary, columns, 0, LABELS)
    _title(axes, summary["task"], summary, banded)


def _title(axes: Any, title: str, summary: Mapping[str, Any], banded: bool) -> None:
    axes.set_title(f"{title}\n", fontsize=12)
    how = _how(summary) + (", 95 % confidence bands" if banded else "")
    axes.annotate(how, (0.5, 1.015), xycoords="axes fraction", ha="center", va="bottom", fontsize=9)
    legend(axes, fontsize=9)


def save_panels(
    path: str | Path, rows: Sequence[Sequence[Path]], titles: Sequence[str], labels: Mapping
) -> None:
    """Draws the curves of several directories side by side, as `save_curves` does one's.

    Args:
        path: of the PNG.
        rows: of directories, equally many in each row.
        titles: one a column.
        labels: name of an optimizer -> what to call it here.
    """
    figure, panels = new_figure(
        len(rows), len(titles), size=(3.7 * len(titles), 4.1 * len(rows) + 0.3)
    )
    labels = {**LABELS, **labels}
    above: dict[str, list[str]] = {}  # of each column, whom the panel above shows
    for beside, directories in zip(panels, rows, strict=True):
        for axes, directory, title in zip(beside, directories, titles, strict=True):
            summary, _ = _plot_curves(axes, directory, 0, labels, rates=False)
            axes.set_title(f"{title}: {_how(summary)}", fontsize=9)
            if list(summary["optimizers"]) != above.get(title):
                legend(axes, fontsize=8)
            above[title] = list(summary["optimizers"])
        for axes in beside[1:]:
            axes.set_ylabel("")
    save_figure(figure, path)


def _how(summary: Mapping[str, Any]) -> str:
    return f"mean of {summary['num_tasks']} optimizees"


def _read_curves(path: Path, from_step: int) -> dict[str, np.ndarray]:
    """The columns of `curves.csv` by their names, whatever signs those have."""
    with path.open(newline="") as file:
        heading, *rows = csv.reader(file)
    columns = np.array(rows, np.float64)[from_step:].T
    return dict(zip(heading, columns, strict=True))


def _plot_curves(
    axes: Any, directory: Path, from_step: int, labels: Mapping[str, str], rates: bool = True
) -> tuple[dict[str, Any], bool]:
    """The curves of `directory` on `axes`; returns the summary, and whether there are bands."""
    summary = json.loads((directory / "summary.json").read_text())
    columns = _read_curves(directory / "curves.csv", from_step)
    return summary, _plot_columns(axes, summary, columns, from_step, labels, rates)


def _plot_columns(
    axes: Any,
    summary: Mapping[str, Any],
    columns: Mapping[str, np.ndarray],
    from_step: int,
    labels: Mapping[str, str],
    rates: bool = True,
) -> bool:
    """Curves on `axes`; returns whether there are bands."""
    num_steps = len(columns["step"])
    num_points = num_steps if num_steps <= MOST_POINTS else NUM_AVERAGES
    columns = {name: _averaged(column, num_points) for name, column in columns.items()}
    optimizers = summary["optimizers"]
    learned = [name for name, row in optimizers.items() if row["learning_rate"] is None]
    baselines = [name for name in optimizers if name not in learned]
    looks = styles([*learned[:1], *baselines, *learned[1:]])
    banded, drawn = False, {}
    for name, row in optimizers.items():
        label = labels.get(name, name).replace("$", r"\$")  # no formula
        if rates and row["learning_rate"] is not None:
            label += f", rate {row['learning_rate']:.3g}"
        curve, low, high = (columns[f"{name}_{part}"] for part in ("mean", "ci95_low", "ci95_high"))
        median = columns.get(f"{name}_median", curve)
        if row.get("num_clusters", summary["num_tasks"]) < LEAST:
            low = high = np.full_like(curve, np.nan)
        if not np.isfinite(curve).all() and np.isfinite(median).sum() > np.isfinite(curve).sum():
            curve, label = median, f"{label} (median)"
            low = high = np.full_like(curve, np.nan)
        drawn[name] = curve
        axes.plot(columns["step"], curve, label=label, **looks[name])
        banded |= bool(np.isfinite(high).any())
        color = looks[name]["color"]
        axes.fill_between(columns["step"], low, high, color=color, alpha=0.18, linewidth=0)
    scale(axes, list(drawn.values()), from_step)
    num_averaged = num_steps // num_points
    axes.set_xlabel("inner step" if num_averaged == 1 else f"inner step (means of {num_averaged})")
    axes.set_ylabel("loss")
    axes.set_xlim(from_step, summary["num_steps"])
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    _mark_horizon(axes, summary, from_step)
    return banded


def _mark_horizon(axes: Any, summary: Mapping[str, Any], from_step: int) -> None:
    tuned_at = summary.get("num_tuning_steps", summary["num_steps"])
    if from_step < tuned_at < summary["num_steps"]:
        axes.axvline(tuned_at, color="0.5", linewidth=1.0)
        early = tuned_at < 0.25 * summary["num_steps"]  # left of it is no room
        axes.annotate(
            "rates tuned for", (tuned_at, 0.02 if early else 0.98), rotation=90,
            xycoords=("data", "axes fraction"), va="bottom" if early else "top",
            ha="left" if early else "right", fontsize=8, color="0.35",
        )  # fmt: skip


def _averaged(column: np.ndarray, number: int) -> np.ndarray:
    """`number` means of neighbours.

    Example:
        >>> _averaged(np.array([1.0, 3.0, 5.0, 7.0, 2.0]), 2).tolist()
        [3.0, 4.5]
    """
    return np.array([part.mean() for part in np.array_split(column, number)])


def _text(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3g}"
