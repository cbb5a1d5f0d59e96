"""`l2ljax reproduce`: what one figure lacks does not take the others."""

import pytest

from l2ljax.command import main, reproducing

FIGURES = {"first": {"kind": "curves"}, "second": {"kind": "film"}, "third": {"kind": "curves"}}


@pytest.fixture
def reproduce(monkeypatch, tmp_path, capsys):
    """The command with figures that take no time, the second of which cannot be made."""
    pytest.importorskip("matplotlib")
    drawn = []

    def draw(figure, directory):
        if figure["kind"] == "film":
            raise FileNotFoundError("photographs are not here")
        drawn.append(directory.name)

    monkeypatch.setattr(reproducing, "set_up", lambda: None)
    monkeypatch.setattr(reproducing, "FIGURES", FIGURES)
    monkeypatch.setattr(reproducing, "_compute", lambda *rest: None)
    monkeypatch.setattr(reproducing.paper, "draw", draw)
    monkeypatch.setattr(reproducing.web, "report", lambda *rest: "page")

    def run(*words):
        code = main(["reproduce", *words, f"--output={tmp_path}", "--quiet"])
        return code, drawn, (tmp_path / "report.html").exists(), capsys.readouterr().err

    return run


def test_of_all_figures_those_that_can_be_made_are_on_the_page(reproduce):
    code, drawn, page, said = reproduce("--all")
    assert (code, drawn, page) == (2, ["first", "third"], True)
    assert "is without 1 of 3 figures: second (photographs are not here)." in said


def test_a_figure_that_was_asked_for_by_name_is_needed(reproduce):
    code, drawn, page, said = reproduce("--figure=second", "--figure=third")
    assert (code, drawn, page) == (2, [], False)
    assert "photographs are not here" in said
