"""Results for people: the table and the figures.

Figures need matplotlib: `pip install "l2ljax[plots]"`.
"""

import csv
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

# Dark to light as well as by hue and dash, so that curves stay apart in grey: a learned optimizer,
# the baselines, further learned ones.
STYLES = (
    {"color": "#b2182b", "linestyle": "-", "linewidth": 2.4},
    {"color": "#2b2b2b", "linestyle": "--", "linewidth": 1.6},
    {"color": "#1f78b4", "linestyle": "-.", "linewidth": 1.6},
    {"color": "#4d9221", "linestyle": ":", "linewidth": 2.0},
    {"color": "#e08214", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "linewidth": 1.6},
    {"color": "#7b3294", "linestyle": (0, (8, 2)), "linewidth": 2.4},
    {"color": "#01665e", "linestyle": (0, (3, 1)), "linewidth": 2.4},
)
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
MOST_POINTS, NUM_AVERAGES = 250, 50
"""Of a curve of more points, so many means of neighbours are drawn: the noise of minibatches would
hide which curve is the lower one."""


def table(summary: Mapping[str, Any]) -> Table:
    """The content of `summary.json` as a table to print."""
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
        out.add_column(heading, justify="right", no_wrap=True)
    for name, row in summary["optimizers"].items():
        final = row["final_loss"]
        out.add_row(
            escape(LABELS.get(name) or name),  # rich reads [brackets] as markup
            "learned" if row["learning_rate"] is None else f"{row['learning_rate']:.3g}",
            _text(final["mean"]),
            " to ".join(map(_text, final["ci95"])),
            _text(final["median"]),
            _text(row["mean_loss"]),
            str(row["diverged"]),
        )
    return out


def save_curves(directory: str | Path, title: str | None = None, from_step: int = 0) -> None:
    """Draws `curves.png` from `summary.json` and `curves.csv` in `directory`.

    The mean loss of each optimizer over the steps, log scale, with 95 % confidence bands. Beyond
    `MOST_POINTS` steps, losses and bands are averaged over neighbouring steps.

    Args:
        directory: of both files.
        title: default: the task's name.
        from_step: where to begin; if it is not 0, the file is `curves_from_STEP.png`.
    """
    directory = Path(directory)
    figure, panels = new_figure(size=(6.0, 4.4))
    axes = panels[0][0]
    summary = _plot_curves(axes, directory, from_step, LABELS)
    axes.set_title(f"{title or summary['task']}\n", fontsize=12)
    how = f"{_how(summary)}, 95 % confidence bands"
    axes.annotate(how, (0.5, 1.015), xycoords="axes fraction", ha="center", va="bottom", fontsize=9)
    axes.legend(frameon=False)
    save_figure(figure, directory / (f"curves_from_{from_step}.png" if from_step else "curves.png"))


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
        len(rows), len(titles), size=(3.7 * len(titles), 3.6 * len(rows) + 0.3)
    )
    labels = {**LABELS, **labels}
    above: dict[str, list[str]] = {}  # of each column, whom the panel above shows
    for beside, directories in zip(panels, rows, strict=True):
        for axes, directory, title in zip(beside, directories, titles, strict=True):
            summary = _plot_curves(axes, directory, 0, labels, rates=False)
            axes.set_title(f"{title}: {_how(summary)}", fontsize=9)
            if list(summary["optimizers"]) != above.get(title):
                axes.legend(frameon=False, fontsize=8)
            above[title] = list(summary["optimizers"])
        for axes in beside[1:]:
            axes.set_ylabel("")
    save_figure(figure, path)


def _how(summary: Mapping[str, Any]) -> str:
    return f"mean of {summary['num_tasks']} optimizees"


def _plot_curves(
    axes: Any, directory: Path, from_step: int, labels: Mapping[str, str], rates: bool = True
) -> dict[str, Any]:
    """The curves of `directory` on `axes`; returns the summary."""
    summary = json.loads((directory / "summary.json").read_text())
    columns = {name: column[from_step:] for name, column in read_curves(directory).items()}
    num_steps = len(columns["step"])
    num_points = num_steps if num_steps <= MOST_POINTS else NUM_AVERAGES
    num_averaged = num_steps // num_points
    columns = {name: _averaged(column, num_points) for name, column in columns.items()}
    optimizers = summary["optimizers"]
    learned = [name for name, row in optimizers.items() if row["learning_rate"] is None]
    baselines = [name for name in optimizers if name not in learned]
    styles = dict(zip([*learned[:1], *baselines, *learned[1:]], _styles(), strict=False))
    for name, row in optimizers.items():
        style, label = styles[name], labels.get(name, name).replace("$", r"\$")  # no formula
        if rates and row["learning_rate"] is not None:
            label += f", rate {row['learning_rate']:.3g}"
        mean, low, high = (columns[f"{name}_{part}"] for part in ("mean", "ci95_low", "ci95_high"))
        axes.plot(columns["step"], mean, label=label, **style)
        axes.fill_between(columns["step"], low, high, color=style["color"], alpha=0.18, linewidth=0)
    axes.set_yscale("log")
    if not from_step:  # a baseline that starts by climbing must not squeeze the others
        starts = np.array([columns[f"{name}_mean"][0] for name in optimizers])
        if (shown := starts[np.isfinite(starts) & (starts > 0)]).size:
            axes.set_ylim(top=1.5 * shown.max())
    bottom, top = axes.get_ylim()
    ticker = _pyplot().matplotlib.ticker
    axes.yaxis.set_major_locator(
        ticker.LogLocator(subs=(1.0,) if top / bottom > 300 else (1.0, 2.0, 3.0, 5.0))
        if top / bottom > 6
        else ticker.MaxNLocator(6)
    )
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_xlabel("inner step" if num_averaged == 1 else f"inner step (means of {num_averaged})")
    axes.set_ylabel("loss")
    axes.set_xlim(from_step, summary["num_steps"])
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    tuned_at = summary.get("num_tuning_steps", summary["num_steps"])
    if from_step < tuned_at < summary["num_steps"]:
        axes.axvline(tuned_at, color="0.5", linewidth=1.0)
        early = tuned_at < 0.25 * summary["num_steps"]  # left of it is no room
        axes.annotate(
            "trained and tuned for", (tuned_at, 0.02 if early else 0.98), rotation=90,
            xycoords=("data", "axes fraction"), va="bottom" if early else "top",
            ha="left" if early else "right", fontsize=8, color="0.35",
        )  # fmt: skip
    return summary


def _styles() -> Iterator[dict[str, Any]]:
    """`STYLES`, and on with their colours in dashes of more and more dots."""
    yield from STYLES
    for dots in itertools.count(2):
        for style in STYLES:
            yield {**style, "linestyle": (0, (4, 1, *(1, 1) * dots)), "linewidth": 1.6}


def read_curves(directory: str | Path) -> dict[str, np.ndarray]:
    """The columns of `curves.csv` in `directory` by name, whatever characters that has."""
    with (Path(directory) / "curves.csv").open(newline="") as file:
        names, *rows = csv.reader(file)
    columns = np.array(rows, np.float64).reshape(len(rows), len(names)).T
    return dict(zip(names, columns, strict=True))


def _averaged(column: np.ndarray, number: int) -> np.ndarray:
    """`number` means of neighbours.

    Example:
        >>> _averaged(np.array([1.0, 3.0, 5.0, 7.0, 2.0]), 2).tolist()
        [3.0, 4.5]
    """
    return np.array([part.mean() for part in np.array_split(column, number)])


def _pyplot() -> Any:
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'Figures need matplotlib, which is not installed; run: pip install "l2ljax[plots]"'
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def new_figure(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float], **options: Any
) -> Any:
    """A figure and its panels, `[rows, columns]`."""
    return _pyplot().subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, **options
    )


def save_figure(figure: Any, path: str | Path) -> None:
    """Writes `figure` as a PNG and forgets it."""
    figure.savefig(path, dpi=150)
    _pyplot().close(figure)


def _text(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3g}"
