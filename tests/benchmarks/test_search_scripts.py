"""The search's scripts as they are run: each in a process of its own."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import search_numbers
import search_scores
import search_trial

from l2ljax import load_optimizer
from l2ljax.bundled import load_pretrained

TUNE = """
import sys
from pathlib import Path

from absl import flags
from search_rule import tune_adam
from search_trial import Trial

if __name__ == "__main__":
    flags.FLAGS(["tune"])
    trials = [Trial("quadratic", 20, 2, 0.0, None, units) for units in (None, (0.01, 0.1))]
    tune_adam([*trials, Trial("valley-20", 20, 2, 0.0)], Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_adam_is_tuned_on_all_processes_as_on_one(tmp_path):
    """Once for trials that differ in their units alone, to what one process finds."""
    (tmp_path / "tune.py").write_text(TUNE)
    path = {"PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    run = [sys.executable, tmp_path / "tune.py", tmp_path / "cells"]
    subprocess.run(run, check=True, env=os.environ | path)
    cells = sorted(path.parent.name for path in (tmp_path / "cells").glob("*/*/*.json"))
    assert cells == ["quadratic", "valley-20"]
    trial = search_trial.Trial("valley-20", 20, 2, 0.0)
    ends = [search_scores.reached_by_adam(trial, tmp_path / name) for name in ("cells", "one")]
    np.testing.assert_allclose(*ends, rtol=1e-5)


def test_part_of_the_way_from_one_rule_to_another_is_an_average(tmp_path):
    """Numbers of two bundled rules averaged by hand; one told the steps and one not are refused."""
    out = tmp_path / "between.safetensors"
    script = Path(search_numbers.__file__).with_name("part_way.py")
    run = [sys.executable, script, f"--out={out}", "--share=0.25", "--rest_after=2000"]
    weights = "--weights=desk-suite,opening-suite"
    subprocess.run([*run, weights], check=True)
    _, made, metadata = load_optimizer(out)
    ends = [load_pretrained(name)[1] for name in ("desk-suite", "opening-suite")]
    by_hand = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, *ends)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), made, by_hand)
    assert metadata["optimizer"]["rest_after"] == 2000
    told = subprocess.run([*run, weights + "-steps"], capture_output=True, text=True)
    assert told.returncode
    assert "is told the number of steps" in told.stderr
    subprocess.run([*run, "--weights=opening-suite-steps,opening-suite-steps"], check=True)
    assert load_optimizer(out)[2]["optimizer"]["num_steps"] == 1000


def test_one_number_is_moved_by_hand_in_its_unit(tmp_path):
    """To what the search makes of it; a number that is none is refused with those there are."""
    out = tmp_path / "moved.safetensors"
    script = Path(search_numbers.__file__).with_name("move_number.py")
    run = [sys.executable, script, "--weights=desk-suite", f"--out={out}", "--by=0.5"]
    subprocess.run([*run, "--output=drift", "--statistic=agreement with m 0.99"], check=True)
    start, by = load_pretrained("desk-suite")[1], np.zeros(16)
    names = [number.statistic for number in search_numbers.NUMBERS[:16]]
    by[names.index("agreement with m 0.99", 13)] = 0.5
    placed = search_numbers.placed(by, ["size", "drift"], told=False)
    by_hand = search_numbers.moved(start, placed)
    made = load_optimizer(out)[1]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), made, by_hand)
    none = subprocess.run([*run, "--output=drift", "--statistic=fan-in"], capture_output=True)
    assert none.returncode
    assert b"No number is drift, fan-in" in none.stderr
