"""Comparisons as a mapping, a table and a figure."""

import jax
import numpy as np
import pytest
from rich.console import Console

from l2ljax.evaluation import Curve, compare
from l2ljax.evaluation.curve_table import Comparison
from l2ljax.tasks import quadratic

LOSSES = np.array([[4.0, 1.0], [8.0, 3.0]])


def test_compare_returns_a_mapping_with_a_table():
    import optax

    counts = {"num_tasks": 2, "num_steps": 2, "num_tuning_tasks": 2, "baselines": {}}
    found = compare(quadratic(dim=2), {"mine": optax.sgd(0.1)}, jax.random.key(0), **counts)
    assert isinstance(found, dict)
    assert list(found) == ["mine"]
    assert "mine" in found._repr_html_()


def test_the_table_and_the_page_have_the_mean_final_loss(capsys):
    """(1 + 3) / 2; names are text, not markup."""
    found = Comparison({"a<b": Curve(None, LOSSES), "[bold]": Curve(0.5, LOSSES)})
    console = Console(record=True, width=100)
    console.print(found.table())
    text = console.export_text()
    assert " 2 " in text
    assert "[bold]" in text
    capsys.readouterr()
    page = found._repr_html_()
    assert "a&lt;b" in page
    assert "<b" not in page.replace("<br", "")
    assert capsys.readouterr().out == ""


def test_the_figure_draws_means():
    pytest.importorskip("matplotlib")
    figure = Comparison({"one": Curve(None, LOSSES)}).plot()
    (line,) = figure.axes[0].get_lines()
    np.testing.assert_allclose(line.get_ydata(), [6.0, 2.0])
