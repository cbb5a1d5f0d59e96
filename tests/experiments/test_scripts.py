"""The command lines, as a user types them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import chex
import pytest

from l2ljax.bundled import load_optimizer

ROOT = Path(__file__).parents[2]
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
        "--config.initial=gone.safetensors": "There is no weights file gone.safetensors",
        "--config.initial.conv=lstm-mnist": "lacks the leaf",
    }.items():
        code, _, err = run("meta_train", *SMALL, workdir, flag)
        assert code == 2
        assert words in err
        assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_configuration_with_parts_of_its_own_trains_and_evaluates(tmp_path):
    """A task registered by the file itself, a field without a value, weights under odd names."""
    own = tmp_path / "own.py"
    own.write_text(
        "import jax, l2ljax, runpy\n"
        "def bowl(width=2, shift=None):\n"
        "    return l2ljax.Task(init=lambda i, key: jax.random.normal(key, (width,)) + shift,\n"
        "                       loss=lambda theta, batch: (theta**2).sum())\n"
        "l2ljax.tasks.BUILDERS['bowl'] = bowl\n"
        "def get_config():\n"
        f"    config = runpy.run_path({str(ROOT / 'configs' / 'demo.py')!r})['get_config']()\n"
        "    with config.ignore_type(): config.task = {'name': 'bowl', 'shift': None}\n"
        "    return config\n"
    )
    workdir = f"--workdir={tmp_path / 'run'}"
    flags = [f"--config={own}", *SMALL[1:], "--config.num_meta_updates=2"]
    code, _, err = run("meta_train", *flags, "--config.task.shift=3.0", workdir)
    assert code == 0, err
    task = json.loads((tmp_path / "run" / "config.json").read_text())["task"]
    assert task == {"name": f"{own}:bowl", "shift": 3.0}
    beside = [f"--beside={name}=lstm-quadratic" for name in ("lstm-quadratic", "a b", "v0.1", "z")]
    code, out, err = run("evaluate", workdir, *beside, "--num_steps=3")
    assert code == 0, err
    assert "v0.1" in out
    assert (tmp_path / "run" / "evaluation" / "curves.png").exists()


@pytest.mark.slow
def test_a_run_that_diverges_ends_with_its_own_code(tmp_path):
    """Exit code 3 and one sentence, again when it is started again; no weights are written."""
    absurd = [f"--workdir={tmp_path}", "--config.meta_optimizer.learning_rate=1e38"]
    limits = ["--config.max_consecutive_skips=2", "--config.max_restores=0"]
    for _ in range(2):
        code, _, err = run("meta_train", *SMALL, *absurd, *limits)
        assert code == 3
        # The first update is made, the next two are skipped.
        assert "DivergenceError: Meta-training stopped at meta-update 3: 2 meta-updates" in err
        assert "Traceback" not in err
    assert not (tmp_path / "meta_params.safetensors").exists()


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

    code, _, err = run("evaluate", workdir, "--beside=other")
    assert code == 2
    assert "--beside must be NAME=WEIGHTS, got 'other'" in err

    weights = tmp_path / "run" / "meta_params.safetensors"
    code, out, err = run("evaluate", workdir, f"--beside=other={weights}")
    assert code == 0, err
    assert "Adam" in out
    found = json.loads((tmp_path / "run" / "evaluation" / "summary.json").read_text())["optimizers"]
    assert found["other"] == found["lstm"]
    names = {path.name for path in (tmp_path / "run" / "evaluation").iterdir()}
    assert names == {"summary.json", "curves.csv", "curves.png"}


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """Started with `--coordinator`: the weights of a lone process, written once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = (*SMALL, "--config.num_meta_updates=4")
    together = [
        start(
            "meta_train", *command, f"--workdir={tmp_path / 'two'}", f"--coordinator={address}",
            "--num_processes=2", f"--process_id={i}",
        )
        for i in range(2)
    ]  # fmt: skip
    for process in together:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert run("meta_train", *command, f"--workdir={tmp_path / 'one'}")[0] == 0
    one, two = (
        load_optimizer(tmp_path / name / "meta_params.safetensors")[1] for name in ("one", "two")
    )
    chex.assert_trees_all_close(one, two, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_cpu_as_several_devices(tmp_path):
    """Three devices for two tasks: they share the coordinates."""
    workdir = f"--workdir={tmp_path / 'run'}"
    code, out, err = run(
        "meta_train", *SMALL, workdir, "--config.num_meta_updates=2", "--devices=3"
    )
    assert code == 0, err
    assert "Done" in out
