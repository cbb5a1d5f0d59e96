"""A comparison is a dict of curves that shows itself; expected numbers are of known curves."""

import sys

import numpy as np
import pytest
from rich.console import Console

from l2ljax.evaluation import Comparison, Curve


def known():
    """Final losses 1 ... 5 (mean 3, interval 3 -+ 2.776 sqrt(2.5 / 5)), and two that diverge."""
    good = np.stack([np.full(5, 10.0), np.arange(1.0, 6.0)], axis=1)
    bad = np.array([[1.0, 0.5], [1.0, 2.0], [1.0, np.nan], [1.0, 0.5], [1.0, 0.5]])
    return Comparison({"mine": Curve(None, good), "<b>[red]": Curve(0.25, bad)}, "parabola")


def test_it_is_a_dict_of_curves():
    found = known()
    assert isinstance(found, dict)
    assert list(found) == ["mine", "<b>[red]"]
    assert found["<b>[red]"].learning_rate == 0.25


def test_its_table_tells_mean_interval_rate_and_diverged():
    text = known().table()
    mine, bad = (next(li for li in text.splitlines() if n in li) for n in ("mine", "<b>[red]  "))
    assert mine.split() == ["mine", "learned", "3", "1.04", "to", "4.96", "3", "6.5", "0"]
    assert bad.split()[1:4] == ["0.25", "not", "finite"]
    assert bad.split()[-1] == "2"
    assert "parabola: 5 optimizees, 1 steps" in text


def test_its_html_is_escaped():
    html = known()._repr_html_()
    assert "<td>&lt;b&gt;[red]</td>" in html
    assert "<td>1.04 to 4.96</td>" in html
    assert "<b>" not in html


def test_its_plot_draws_the_means(tmp_path):
    pytest.importorskip("matplotlib")
    figure = known().plot(tmp_path / "curves.png")
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [10.0, 3.0])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_plot_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"l2ljax\[plots\]"):
        known().plot()


def test_nothing_to_plot_is_told():
    with pytest.raises(ValueError, match="no curves"):
        Comparison({}).plot()


def test_its_picture_shows_itself_in_a_notebook():
    """Without pyplot, whose figures alone a notebook knows by itself."""
    pytest.importorskip("matplotlib")
    assert known().plot()._repr_png_().startswith(b"\x89PNG")


def test_small_losses_leave_names_whole_in_80_columns():
    """Numbers such as 0.000478 are wide; five of them are more than a terminal has."""
    losses = np.array([[0.5, 0.000478], [0.5, 0.000812]] * 5)
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(Comparison({"rmsprop": Curve(0.0464, losses), "lstm": Curve(None, losses)}))
    text = captured.get()
    assert "RMSprop" in text
    assert "optimizer" in text
    assert max(map(len, text.splitlines())) <= 80
