"""Tables and figures: what is labelled, and where the legend is."""

import io
from itertools import pairwise

import numpy as np
import pytest
import rich.console

from l2ljax.evaluation import Curve, report, summarise
from l2ljax.evaluation._drawing import tick_values
from l2ljax.experiments.comparison import write_results


def results(directory, num_tasks, names=("lstm", "adam"), last=0.004, bad=None):
    """Curves from 1 down to `last`, and what is written of them."""
    levels = np.geomspace(1.0, last, 21)
    curves = {}
    for i, name in enumerate(names):
        spread = 1 + 0.1 * np.arange(num_tasks)[:, None] / num_tasks
        losses = levels * spread * (1 + 0.1 * i)
        if name == bad:
            losses[0, 10:] = np.nan
        curves[name] = Curve(0.1 if i else None, losses)
    summary = {
        "task": "parabola",
        "num_tasks": num_tasks,
        "num_steps": 20,
        "optimizers": {name: summarise(curve) for name, curve in curves.items()},
    }
    write_results(directory, summary, curves)
    return summary


@pytest.fixture
def drawn(monkeypatch):
    """The figure that is saved, as it is."""
    pytest.importorskip("matplotlib")
    figures = []
    monkeypatch.setattr(report, "save_figure", lambda figure, path: figures.append(figure))
    return figures


def test_the_lowest_label_is_below_all_curves_and_the_legend_beside(tmp_path, drawn):
    results(tmp_path, 6)
    report.save_curves(tmp_path)
    (figure,) = drawn
    figure.canvas.draw()
    (axes,) = figure.axes
    assert min(axes.get_yticks()) <= 0.004
    assert min(axes.get_yticks()) >= axes.get_ylim()[0]
    legend = axes.get_legend().get_window_extent()
    assert not legend.overlaps(axes.get_window_extent())
    assert figure.bbox.y0 <= legend.y0
    assert any("95 %" in text.get_text() for text in axes.texts)


@pytest.mark.parametrize("which", ["x", "y"])
def test_a_log_axis_has_round_labels_and_a_shared_legend_lies_below(which, tmp_path):
    """The lowest label is the axis's end, none is in scientific notation, no panel is covered."""
    pytest.importorskip("matplotlib")
    figure, panels = report.new_figure(1, 2, size=(8, 3))
    for axes in panels[0]:
        axes.plot([0.31, 2.2], [0.31, 2.2], label="a line")
        report.log_labels(axes, which, 0.31, 2.2)
    report.shared_legend(figure, panels[0][0])
    figure.canvas.draw()
    (legend,) = figure.legends
    for axes in panels[0]:
        ticks = getattr(axes, f"get_{which}ticks")()
        assert ticks.tolist() == [0.3, 0.5, 1.0, 2.0]
        assert getattr(axes, f"get_{which}lim")()[0] == 0.3
        labels = getattr(axes, f"get_{which}ticklabels")()
        assert [label.get_text() for label in labels] == ["0.3", "0.5", "1", "2"]
        assert not legend.get_window_extent().overlaps(axes.get_tightbbox())
    report.save_figure(figure, tmp_path / "figure.png")


def test_few_optimizees_have_no_bands(tmp_path, drawn):
    results(tmp_path, 4)
    report.save_curves(tmp_path)
    assert not any("95 %" in text.get_text() for text in drawn[0].axes[0].texts)
    assert "nan" in (tmp_path / "curves.csv").read_text()


def test_any_number_of_optimizers_of_any_name_can_be_drawn(tmp_path, drawn):
    names = [f"adam-{i}.0 (mine)" for i in range(30)]
    results(tmp_path, 5, names)
    report.save_curves(tmp_path)
    lines = drawn[0].axes[0].get_lines()
    assert len(lines) == 30


def test_what_diverged_is_drawn_by_its_median_and_flagged(tmp_path, drawn):
    summary = results(tmp_path, 7, bad="adam")
    report.save_curves(tmp_path)
    line = drawn[0].axes[0].get_lines()[1]
    assert "median" in line.get_label()
    assert np.isfinite(line.get_ydata()).all()
    assert report.flags(summary) == ["Adam: 1 of 7 are not finite."]
    assert "not finite" in report.table(summary).caption


@pytest.mark.parametrize(
    ("low", "high"), [(3e-30, 9.0), (0.9, 1.1), (1.0, 1.0001), (0.02, 0.9), (5.0, 5e9), (4.1, 400)]
)
def test_ticks_are_few_and_the_first_is_below(low, high):
    ticks = tick_values(low, high)
    assert ticks[0] <= low
    assert 2 <= len(ticks) <= 13
    assert all(first < second for first, second in pairwise(ticks))
    assert ticks[-1] <= high


def test_brackets_in_a_name_are_printed_below_the_table_too(tmp_path):
    """Rich would read them as markup."""
    summary = results(tmp_path, 7, ["[mine]", "adam"], bad="[mine]")
    out = io.StringIO()
    rich.console.Console(file=out, width=100).print(report.table(summary))
    assert "[mine]: 1 of 7 are not finite." in out.getvalue()
