"""What `l2ljax evaluate` tells while it goes, and when it is stopped. Nothing is evaluated here."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from l2ljax.command import main
from l2ljax.command.stages import stage_bar
from l2ljax.evaluation import Comparison, Curve, Stage
from l2ljax.tasks import quadratic


def stages(tell, stop_at):
    """A stand-in for an evaluation of three stages, the first of which is there already."""
    settings = {"num_tasks": 8, "num_steps": 100, "learning_rate": None}
    rates = settings | {"learning_rate": [0.1, 1.0]}
    lstm = Stage("evaluating", "lstm", 1, 3, quadratic(), (), settings)
    tuning = lstm._replace(work="tuning", name="adam", number=2, settings=rates)
    tell(lstm, "kept")
    for stage in (tuning, lstm._replace(name="adam", number=3)):
        tell(stage, "begins")
        if stage.number == stop_at:
            raise KeyboardInterrupt
        tell(stage, "done")


@pytest.mark.parametrize("stop_at", [None, 3])
def test_evaluate_tells_of_each_stage_and_of_what_is_kept(stop_at, capsys, monkeypatch, tmp_path):
    """In a log a line where a stage begins, one with its seconds where it ends; --quiet: none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "unfinished").mkdir(parents=True)
    (tmp_path / "out" / "curves.png").write_text("of an evaluation before")

    def stand_in(weights, overrides, *, keep, tell, data_dir):
        assert keep == Path("out/unfinished")
        stages(tell, stop_at)
        losses = np.ones((2, 3))
        curves = {"lstm": Curve(None, losses), "adam": Curve(0.1, losses)}
        return Comparison(curves).summary, curves

    monkeypatch.setattr("l2ljax.command.evaluate.set_up", lambda: None)
    monkeypatch.setattr("l2ljax.experiments.comparison.evaluate_weights", stand_in)
    monkeypatch.setattr("l2ljax.evaluation.report.save_curves", lambda directory: None)
    words = ("evaluate", "--weights=lstm-quadratic", "--output=out")
    code = main(words)
    out, err = capsys.readouterr()
    lines = [re.sub(r"\d+\.\d s$", "_ s", line) for line in err.splitlines()]
    assert lines[:4] == [
        "1/3 evaluated lstm before; kept",
        "2/3 tuning adam: 2 rates, 8 optimizees, 100 steps",
        "2/3 tuned adam in _ s",
        "3/3 evaluating adam: 8 optimizees, 100 steps",
    ]
    if stop_at is None:
        assert (code, lines[4:]) == (0, ["3/3 evaluated adam in _ s"])
        assert "Numbers in out/summary.json" in out
    else:
        assert code == 130
        assert lines[4] == (
            "Stopped. 2 of 3 stages are in out/unfinished; the same command goes on from there."
        )
    for name in ("unfinished", "curves.png"):  # an old figure does not stand beside new numbers
        assert (tmp_path / "out" / name).exists() == (stop_at is not None)
    assert main((*words, "--quiet")) == code
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_stages_are_a_bar(capsys):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with stage_bar(True, console) as bar:
        stages(bar, stop_at=None)
    assert (bar.finished, bar.total) == (3, 3)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert "2/3 tuned adam in 0.0 s" in shown
    assert "\u2501" in shown  # of the bar
    assert "3/3 0:00:0" in shown  # all of them, and how long it took
    assert capsys.readouterr() == ("", "")
