"""What `l2ljax board` refuses before it runs for hours."""

import json
import re

import pytest

from l2ljax.command import main

GOOD = {"steps": [0, 10, 20], "loss": [3.0, 2.0, 1.0]}
NAME = "ImageMLP_Cifar10_8_Relu32"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cifar8-relu-32": GOOD}, f"has no curve of a task of the suite; .*{NAME}"),
        ({NAME: GOOD | {"loss": [1.0]}}, "of as many numbers, steps ascending"),
        ({NAME: GOOD | {"steps": [0, 20, 10]}}, "steps ascending"),
        ({NAME: GOOD | {"loss": [3.0, "2.0", 1.0]}}, "of as many numbers"),
        ({NAME: {"steps": [], "loss": []}}, "of as many numbers"),
        ({NAME: {"steps": [0]}}, "of as many numbers"),
        ([GOOD], "an object with a member a published curve"),
    ],
)
def test_curves_are_looked_into_at_the_door(given, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("l2ljax.command.boarding.set_up", lambda: None)
    monkeypatch.setattr("l2ljax.experiments.board.run_board", pytest.fail)
    (tmp_path / "curves.json").write_text(json.dumps(given))
    flags = ["--steps=5", "--tasks=quadratic", "--optimizers=adam", f"--cells={tmp_path}/cells"]
    assert main(["board", *flags, f"--envelopes={tmp_path}/curves.json"]) == 2
    assert re.search(words, capsys.readouterr().err)


def test_what_is_named_twice_is_run_once(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("l2ljax.command.boarding.set_up", lambda: None)
    monkeypatch.setattr("l2ljax.command.boarding._write", lambda cells, out: "")
    monkeypatch.setattr(
        "l2ljax.experiments.board.run_board", lambda cells, *rest, **more: asked.extend(cells)
    )
    flags = ["--steps=5,5", "--tasks=quadratic,quadratic", "--optimizers=adam,nag,adam"]
    assert main(["board", *flags, f"--cells={tmp_path}"]) == 0
    assert [(cell.task, cell.optimizer, cell.num_steps) for cell in asked] == [
        ("quadratic", "adam", 5),
        ("quadratic", "nag", 5),
    ]
