"""The same seed gives the same numbers, in another process too."""

import os
import subprocess
import sys

import pytest
from kill import ROOT, history, weights

TINY = [
    "--config=configs/demo.py",
    "--config.num_meta_updates=30",
    "--config.num_tasks=16",
    "--config.episode_length=10",
    "--config.unroll_length=5",
    "--config.validation.num_tasks=16",
    "--config.validation.every=10",
]


def start(workdir, hash_seed, *arguments):
    """Meta-training in a process that compiles for itself and orders its sets in its own way."""
    surroundings = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(workdir.with_name(f"cache-{workdir.name}")),
        "PYTHONHASHSEED": str(hash_seed),
    }
    return subprocess.Popen(
        [sys.executable, "scripts/meta_train.py", *TINY, f"--workdir={workdir}", *arguments],
        cwd=ROOT,
        env=os.environ | surroundings,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_give_the_same_bits(tmp_path):
    """Weights bit for bit and history byte for byte, however often they checkpoint.

    Another seed gives others.
    """
    runs = {"a": (1,), "b": (2, "--config.checkpoint_every=7"), "other": (1, "--config.seed=1")}
    processes = [start(tmp_path / name, *arguments) for name, arguments in runs.items()]
    for process in processes:
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
    found = {name: {k: v.tobytes() for k, v in weights(tmp_path / name).items()} for name in runs}
    assert found["a"] == found["b"]
    assert found["a"].keys() == found["other"].keys()
    assert all(found["a"][name] != found["other"][name] for name in found["a"])
    assert history(tmp_path / "a").count(b"\n") == 6  # of training and of validation, every 10
    assert history(tmp_path / "a") == history(tmp_path / "b")
    assert history(tmp_path / "a") != history(tmp_path / "other")
