"""The command lines, as a user types them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = [
    "--config=configs/demo.py",
    "--config.num_tasks=2",
    "--config.episode_length=4",
    "--config.unroll_length=2",
    "--config.validation.num_tasks=2",
    "--config.evaluation.num_tasks=3",
    "--config.evaluation.num_tuning_tasks=2",
]


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, f"scripts/{script}.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(script, *arguments):
    process = start(script, *arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_bad_flags_and_fields_end_with_one_sentence(tmp_path):
    """Exit code 2, the culprit named, no traceback, nothing written."""
    workdir = f"--workdir={tmp_path / 'run'}"
    for flag, words in {
        "--config.num_tusks=3": "num_tusks",
        "--config.unroll_length=3": "does not divide",
    }.items():
        code, _, err = run("meta_train", *SMALL, workdir, flag)
        assert code == 2
        assert words in err
        assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_train_interrupt_resume_evaluate(tmp_path):
    """Ctrl-C exits 130 after a checkpoint, the same command resumes, then says that it is done."""
    workdir = f"--workdir={tmp_path / 'run'}"
    command = (*SMALL, workdir, "--config.num_meta_updates=3000", "--config.checkpoint_every=100")
    process = start("meta_train", *command)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command resumes" in out

    code, _, err = run("evaluate", workdir)
    assert code == 2
    assert "not finished" in err

    code, out, _ = run("meta_train", *command)
    assert code == 0
    assert "Done in" in out
    code, out, _ = run("meta_train", *command)
    assert code == 0
    assert "nothing to do" in out

    code, out, err = run("evaluate", workdir)
    assert code == 0, err
    assert "Adam" in out
    names = {path.name for path in (tmp_path / "run" / "evaluation").iterdir()}
    assert names == {"summary.json", "curves.csv", "curves.png"}
