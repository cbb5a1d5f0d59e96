"""What `compare` returns: curves by name, which can be read as a table and as a picture."""

from collections.abc import Mapping
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from l2ljax.evaluation import report
from l2ljax.evaluation.curve import Curve
from l2ljax.evaluation.statistics import columns, summarise


class Comparison(dict[str, Curve]):
    """Curves by name; a notebook shows it as a table.

    Args:
        curves: name -> `Curve`, all of as many optimizees and steps.
        task: what they were measured on, in a word.
        num_tuning_steps: inner steps that rates were tuned for; default: all.

    Example:
        >>> losses = np.array([[4.0, 1.0]] * 6)
        >>> found = Comparison({"lstm": Curve(None, losses), "adam": Curve(0.1, 2 * losses)})
        >>> found["adam"].learning_rate
        0.1
        >>> [row.split()[:6] for row in found.table().splitlines() if "to" in row]
        [['LSTM', 'learned', '1', '1', 'to', '1'], ['Adam', '0.1', '2', '2', 'to', '2']]
    """

    def __init__(
        self, curves: Mapping[str, Curve], task: str = "", num_tuning_steps: int | None = None
    ):
        super().__init__(curves)
        self.task, self.num_tuning_steps = task, num_tuning_steps

    @property
    def summary(self) -> dict[str, Any]:
        """The numbers of all, as in `summary.json`; see `summarise`."""
        shape = next((curve.losses.shape for curve in self.values()), (0, 1))
        tuned_at = self.num_tuning_steps
        return {
            "task": self.task or "comparison",
            "num_tasks": shape[0],
            "num_steps": shape[1] - 1,
            "num_tuning_steps": shape[1] - 1 if tuned_at is None else tuned_at,
            "optimizers": {name: summarise(curve, tuned_at) for name, curve in self.items()},
        }

    def table(self) -> str:
        """Text to print: rates, final losses with 95 % intervals, how many diverged."""
        console = Console(width=100, color_system=None)
        with console.capture() as captured:
            console.print(self)
        return captured.get()

    def plot(self, path: str | Path | None = None) -> Any:
        """Mean losses over the steps, log scale, with 95 % bands where optimizees suffice.

        Args:
            path: where the figure is written, as PNG, SVG or PDF by its ending; default: nowhere.

        Returns:
            a Matplotlib figure, which leaves pyplot and its backend alone.

        Raises:
            ModuleNotFoundError: without Matplotlib, saying how to install it.
            ValueError: if there are no curves.
        """
        if not self:
            raise ValueError("There are no curves to plot; compare at least one optimizer.")
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                'plot needs matplotlib, which is not installed; run: pip install "l2ljax[plots]"'
            ) from error

        class Picture(Figure):
            """Shows itself in a notebook, where that is left to pyplot, which may not be loaded."""

            def _repr_png_(self) -> bytes:
                return _png(self)

        figure = Picture(figsize=(6.0, 5.0), layout="constrained")
        num_points = len(next(iter(self.values())).losses[0])
        drawn = {"step": np.arange(num_points, dtype=np.float64), **columns(self)}
        report.draw_curves(figure.subplots(), self.summary, drawn)
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure

    def __rich__(self) -> Table:
        return report.table(self.summary)

    def _repr_html_(self) -> str:
        table = self.__rich__()
        heads = "".join(f"<th>{escape(str(column.header))}</th>" for column in table.columns)
        cells = zip(*(column.cells for column in table.columns), strict=True)
        rows = "".join(
            "<tr>"
            + "".join(f"<td>{escape(Text.from_markup(str(cell)).plain)}</td>" for cell in row)
            + "</tr>"
            for row in cells
        )
        doubts = "".join(f"<p>{escape(line)}</p>" for line in report.flags(self.summary))
        title = escape(Text.from_markup(str(table.title)).plain)
        return (
            f"<table><caption>{title}</caption><thead><tr>{heads}</tr></thead>"
            f"<tbody>{rows}</tbody></table>{doubts}"
        )


def _png(figure: Any) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
