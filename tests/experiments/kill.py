"""Kills real meta-training at random moments, resumes it, and compares with a run left alone.

    python tests/experiments/kill.py --runs=20

Each run is killed (SIGKILL) `--kills` times, whatever it is doing, a checkpoint included, and then
left to end. Its weights must equal those of the run left alone bit for bit, and its history byte
for byte. Prints a table; exits 1 if a run differs.
"""

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy

ROOT = Path(__file__).parents[2]
NUM_META_UPDATES = 400
CONFIGURATION = [
    "--config=configs/quadratic.py",
    f"--config.num_meta_updates={NUM_META_UPDATES}",
    "--config.num_tasks=8",
    "--config.checkpoint_every=7",  # no divisor of anything else: most moments are in a save
    "--config.validation.num_tasks=8",
    "--config.validation.every=30",
]


class Outcome(NamedTuple):
    """One killed run: when it was killed (inner wall time [s], last update in its history)."""

    kills: list[tuple[float, int]]
    same_weights: bool
    same_history: bool


def start(workdir: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "scripts/meta_train.py", *CONFIGURATION, f"--workdir={workdir}"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> None:
    _, err = process.communicate(timeout=600)
    if process.returncode != 0:
        raise RuntimeError(f"Meta-training ended with code {process.returncode}: {err[-2000:]}")


def history(workdir: Path) -> bytes:
    path = workdir / "metrics.jsonl"
    return path.read_bytes() if path.exists() else b""


def wait_for_history(workdir: Path, process: subprocess.Popen, longer_than: int) -> None:
    while process.poll() is None and len(history(workdir)) <= longer_than:
        time.sleep(0.005)


def weights(workdir: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(workdir / "meta_params.safetensors")


def run_alone(workdir: Path) -> float:
    """A run left alone; returns the seconds from its first update to its end."""
    process = start(workdir)
    wait_for_history(workdir, process, 0)
    begin = time.perf_counter()
    finish(process)
    return time.perf_counter() - begin


def run_killed(workdir: Path, alone: Path, moments: list[float]) -> Outcome | None:
    """A run killed at `moments` [s after its first new record]; `None` if it ended before one."""
    kills = []
    for moment in moments:
        process = start(workdir)
        wait_for_history(workdir, process, len(history(workdir)))
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            return None
        kills.append((moment, history(workdir).count(b'"meta_loss"') * 10))
    finish(start(workdir))
    expected, found = weights(alone), weights(workdir)
    same = expected.keys() == found.keys() and all(
        expected[name].tobytes() == found[name].tobytes() for name in expected
    )
    return Outcome(kills, same, history(alone) == history(workdir))


def kill_test(folder: Path, runs: int, kills: int, seed: int) -> list[Outcome]:
    """The outcomes of `runs` runs, each killed `kills` times, in turn."""
    draw = random.Random(seed)
    run_alone(folder / "warm")  # compiles; the caches on disk serve the others
    seconds = run_alone(folder / "alone")
    outcomes: list[Outcome] = []
    for workdir in (folder / f"run-{index}" for index in itertools.count()):
        moments = [draw.uniform(0, seconds / kills) for _ in range(kills)]
        outcome = run_killed(workdir, folder / "alone", moments)
        if outcome is None:
            continue  # the run had ended: another moment
        outcomes.append(outcome)
        at = ", ".join(f"{moment:.2f} s (update {update})" for moment, update in outcome.kills)
        print(
            f"run {len(outcomes):2d}: killed at {at}; weights "
            f"{'same' if outcome.same_weights else 'DIFFER'}, history "
            f"{'same' if outcome.same_history else 'DIFFERS'}",
            flush=True,
        )
        if len(outcomes) == runs:
            break
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--kills", type=int, default=1, help="of each run")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = kill_test(Path(folder), options.runs, options.kills, options.seed)
    same = sum(o.same_weights and o.same_history for o in outcomes)
    print(f"{same} of {len(outcomes)} resumed runs are bit-identical to one that was left alone.")
    return 0 if same == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
