"""What is shown while a run goes: a bar, or lines where there can be none."""

import io

import pytest
from rich.console import Console

from l2ljax.training import progress

HISTORY = [{"meta_loss": 1.5}, {"validation_loss": 0.25}]


@pytest.fixture
def clock(monkeypatch):
    """Ten seconds pass between two readings' updates."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def run(console, clock, updates=7):
    with progress.progress_bar(True, 100, 0, console) as show:
        for update in range(1, updates + 1):
            clock[0] += 10.0
            show(update, HISTORY)


@pytest.mark.parametrize("jupyter", [False, True], ids=["log", "notebook without widgets"])
def test_without_a_terminal_there_are_lines(jupyter, clock, capsys, monkeypatch):
    """One every 30 s, with what is left: 97 updates of 10 s each after the third."""
    monkeypatch.setattr(progress, "_has_widgets", lambda: False)
    out = io.StringIO()
    run(Console(file=out, force_jupyter=jupyter, force_terminal=False), clock)
    lines = capsys.readouterr().err.splitlines()
    assert out.getvalue() == ""
    assert len(lines) == 2
    for word in ("3/100", "10 s each", "970 s left", "meta-loss 1.5", "validation 0.25"):
        assert word in lines[0]


def test_a_terminal_has_a_bar_with_the_rate(clock, capsys):
    out = io.StringIO()
    run(Console(file=out, force_terminal=True, force_jupyter=False, width=150), clock)
    assert "7/100" in out.getvalue()
    assert "10 s each" in out.getvalue()
    assert "meta-loss 1.5" in out.getvalue()
    assert capsys.readouterr().err == ""


def test_quiet_is_quiet(capsys):
    with progress.progress_bar(False, 10, 0) as show:
        show(1, HISTORY)
    assert capsys.readouterr() == ("", "")
