"""Adapting a learned optimizer helps: on the page, by the command, on fresh optimizees."""

import functools
import re
from pathlib import Path

import jax.numpy as jnp
import optax
import pytest
from adaptation_cases import BASELINES, QUICK, adapt
from test_scripts import run as run_script

import l2ljax
from l2ljax.experiments.adaptation.verdict import standing

ROOT = Path(__file__).parents[2]
TEACHER = ROOT / "docs" / "examples" / "teacher.py"


@pytest.mark.slow
def test_the_documentation_runs(tmp_path, monkeypatch):
    """Each block of the page as it stands, in turn, with fewer steps."""
    few = functools.partial(l2ljax.adapt, num_meta_updates=1, baselines=BASELINES, **QUICK)
    monkeypatch.setattr(l2ljax, "adapt", few)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "adapt.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "docs/adapt.md", "exec"), {})


@pytest.mark.slow
def test_the_command(tmp_path):
    """A table and the verdict at the end; a sentence for what does not fit."""
    flags = ["--weights=lstm-quadratic", f"--task={TEACHER}", "--minutes=9", "--num_steps=4"]
    flags += ["--num_eval_tasks=5", "--num_meta_updates=2", f"--workdir={tmp_path / 'run'}"]
    code, out, err = run_script("adapt", *flags)
    assert code == 0, err
    assert "orth using" in out
    assert (tmp_path / "run" / "evaluation" / "curves.png").exists()
    assert l2ljax.load_optimizer(tmp_path / "run" / "adapted.safetensors")[2]["task"] == str(
        TEACHER
    )
    code, _, err = run_script("adapt", *flags)
    assert (code, "Traceback" in err) == (2, False)
    assert "nothing is overwritten" in err


@pytest.mark.slow
def test_adapting_lowers_the_loss_on_fresh_optimizees():
    """Small random networks, from an optimizer of the paper's that has never seen one."""
    result = l2ljax.adapt(
        "lstm-mnist", str(TEACHER), minutes=5, num_steps=20, num_eval_tasks=16, num_tasks=4,
        num_validation_tasks=8, num_meta_updates=60, baselines={"adam": optax.adam},
    )  # fmt: skip
    found = standing(result.curves["adapted"], result.curves["start"])
    assert found.level == "better"
    assert found.ratio < 0.9


@pytest.mark.slow
def test_what_chooses_itself_learns_a_rate():
    """By evolution strategies and the annealed Adam: from 0.01, where 0.5 solves it at once."""
    result = adapt(estimator=None, meta_optimizer=None, learning_rate=0.2, num_meta_updates=30)
    scores = [record["validation_loss"] for record in result.validation]
    assert min(scores) < 0.5 * scores[0]
    assert float(jnp.exp(result.meta_params["learning_rate"])) > 0.02
