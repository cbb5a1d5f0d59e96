"""What `compare` returns: its curves by name, with a table and a figure of them."""

import io
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from l2ljax.evaluation._drawing import new_figure, scale, styles
from l2ljax.evaluation.report import LABELS, table
from l2ljax.evaluation.statistics import summarise


class Comparison(dict):
    """Name -> `Curve`, a dict, which notebooks show as a table."""

    def summary(self) -> dict[str, Any]:
        """The numbers of all, as `summary.json` has them."""
        first = next(iter(self.values())).losses if self else np.zeros((0, 1))
        return {
            "task": "comparison",
            "num_tasks": first.shape[0],
            "num_steps": first.shape[1] - 1,
            "optimizers": {name: summarise(curve) for name, curve in self.items()},
        }

    def table(self) -> Table:
        """Final losses with their intervals, to print with rich."""
        return table(self.summary())

    def plot(self) -> Any:
        """A matplotlib figure: the mean loss of each over the steps, log scale.

        Raises:
            ImportError: without matplotlib, `pip install "l2ljax[plots]"`.
        """
        figure, panels = new_figure(size=(6.0, 5.0))
        axes = panels[0][0]
        means = {name: curve.losses.mean(axis=0) for name, curve in self.items()}
        for name, style in styles(list(means)).items():
            axes.plot(means[name], label=LABELS.get(name, name), **style)
        if means:
            scale(axes, list(means.values()), 0)
            axes.legend()
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        return figure

    def _repr_html_(self) -> str:
        console = Console(record=True, width=100, file=io.StringIO())
        console.print(self.table())
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
