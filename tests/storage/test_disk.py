"""Disks that are full, and directories that cannot be written: one sentence, nothing lost.

The disks are real: small ones in memory (tmpfs), where this process may mount any.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import safetensors.numpy

from l2ljax.bundled import save_optimizer
from l2ljax.optimizers import lstm
from l2ljax.storage import checkpoint
from l2ljax.storage.workdir import claim, write_atomically
from l2ljax.training.history import MetricsLog

ROOT = Path(__file__).parents[2]
CONFIGURATION = [
    "--config=configs/demo.py",
    "--config.num_tasks=2",
    "--config.episode_length=4",
    "--config.unroll_length=2",
    "--config.num_meta_updates=60",
    "--config.checkpoint_every=5",
    "--config.validation.num_tasks=2",
]


def mount(*arguments):
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    """A disk of 300 kB, and a function that changes its options."""
    where = tmp_path / "disk"
    where.mkdir()
    mount("-t", "tmpfs", "-o", "size=300k", "tmpfs", where)
    yield where, lambda options: mount("-o", f"remount,{options}", where)
    subprocess.run(["umount", str(where)], check=True)


def fill(disk):
    """Leaves no room on `disk`."""
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def meta_train(workdir):
    """Exit code and stderr of the script."""
    done = subprocess.run(
        [sys.executable, "scripts/meta_train.py", *CONFIGURATION, f"--workdir={workdir}"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stderr


def steps(workdir):
    return list(checkpoint.steps(workdir / "checkpoints"))


def assert_one_sentence(err, *words):
    """And the hint how to see more."""
    assert err.count("\n") == 2, err
    sentence, hint = err.splitlines()
    assert all(word in sentence for word in words), sentence
    assert hint.startswith("(L2LJAX_TRACEBACK=1")


@pytest.mark.slow
def test_a_run_on_a_full_disk_goes_on_when_there_is_room(disk, tmp_path):
    """It stops with a sentence; with more room it ends as one that always had it."""
    where, remount = disk
    workdir = where / "run"
    code, err = meta_train(workdir)
    assert code == 2
    assert_one_sentence(err, str(workdir / "checkpoints"), "No space left on device")
    before = steps(workdir)
    assert before
    assert not (workdir / "meta_params.safetensors").exists()

    remount("size=300k,ro")
    code, err = meta_train(workdir)
    assert code == 2
    assert_one_sentence(err, str(workdir), "Read-only file system")
    assert steps(workdir) == before

    remount("size=20m,rw")
    code, err = meta_train(workdir)
    assert (code, err) == (0, "")
    assert not (workdir / "damaged").exists()
    assert meta_train(tmp_path / "alone")[0] == 0
    alone, resumed = (
        safetensors.numpy.load_file(folder / "meta_params.safetensors")
        for folder in (tmp_path / "alone", workdir)
    )
    assert alone.keys() == resumed.keys()
    assert all(alone[name].tobytes() == resumed[name].tobytes() for name in alone)


def test_files_on_a_full_disk_stay_as_they_were(disk):
    """What was there is whole, what could not be written leaves nothing behind."""
    where, _ = disk
    path, weights = where / "config.json", where / "w.safetensors"
    specification = {"name": "lstm", "hidden_sizes": [20, 20]}
    meta_params = jax.jit(lstm((20, 20)).init)(jax.random.key(0))
    write_atomically(path, "{}")
    save_optimizer(weights, specification, meta_params)
    log = MetricsLog(where / "metrics.jsonl", 0)
    log.append({"update": 1})
    before = {p.name: p.read_bytes() for p in where.iterdir()}
    fill(where)
    for write, name in {
        lambda: write_atomically(path, "x" * 10_000): "config.json",
        lambda: save_optimizer(weights, specification, meta_params): "w.safetensors",
        lambda: log.append({"update": 2, "losses": [0.5] * 2000}): "metrics.jsonl",
    }.items():
        with pytest.raises(OSError, match=rf"{name} cannot be written \(No space left on device\)"):
            write()
    (where / "filler").unlink()
    after = {p.name: p.read_bytes() for p in where.iterdir()}
    started = after.pop("metrics.jsonl")
    assert started.startswith(before.pop("metrics.jsonl"))
    assert after == before


def test_a_checkpoint_that_does_not_fit_leaves_the_others_whole(disk):
    """Nothing is left of it, and the one before can be restored."""
    where, _ = disk
    state = {"x": jnp.arange(1000.0)}
    checkpoint.save(where / "checkpoints", 1, state, {})
    fill(where)
    with pytest.raises(OSError, match=r"Checkpoints cannot be written to .*checkpoints \(No space"):
        checkpoint.save(where / "checkpoints", 2, state, {})
    assert [p.name for p in (where / "checkpoints").iterdir()] == ["1.safetensors"]
    found = checkpoint.load(where / "checkpoints")
    assert found is not None
    assert found.step == 1
    assert (checkpoint.place(found, state)["x"] == state["x"]).all()


def test_a_workdir_that_cannot_be_made_is_named(tmp_path, disk):
    """Below a file, and on a disk that is read-only."""
    (tmp_path / "file").write_text("")
    with pytest.raises(
        NotADirectoryError, match=r"The directory .*file/run cannot be made \(Not a"
    ):
        claim(tmp_path / "file" / "run", {})
    where, remount = disk
    remount("ro")
    with pytest.raises(OSError, match=r"disk/run cannot be made \(Read-only file system\)"):
        claim(where / "run", {})
