"""Kills real meta-training at random moments, resumes it, and compares with a run left alone.

    python tests/experiments/kill.py --runs=20

Runs draw among all estimators (`kill_config.py`), each before any a second time. Each is killed
(SIGKILL) `--kills` times, whatever it is doing, a checkpoint included, and then left to end. Its
weights must equal those of a run left alone bit for bit, and its history byte for byte. Prints a
line for each; exits 1 if a run differs.
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
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy
from kill_config import ESTIMATORS, NUM_META_UPDATES

ROOT = Path(__file__).parents[2]
EVERY = 10  # updates between records
LONGEST_WAIT = 0.03  # seconds after a record: about what the next one takes


class Outcome(NamedTuple):
    """One killed run, and the last update in its history when it was killed."""

    estimator: str
    kills: list[int]
    same_weights: bool
    same_history: bool


def start(workdir: Path, estimator: str) -> subprocess.Popen:
    config = f"--config=tests/experiments/kill_config.py:{estimator}"
    return subprocess.Popen(
        [sys.executable, "scripts/meta_train.py", config, f"--workdir={workdir}"],
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


def weights(workdir: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(workdir / "meta_params.safetensors")


def updates_recorded(workdir: Path) -> int:
    """Meta-updates in the history, which has every tenth."""
    return history(workdir).count(b'"meta_loss"') * EVERY


def run_killed(workdir: Path, estimator: str, alone: Path, moments: list[float]) -> Outcome | None:
    """A run killed at `moments` [meta-updates]; `None` if it ended before one of them."""
    kills = []
    for moment in moments:
        process = start(workdir, estimator)
        whole = int(moment) // EVERY * EVERY
        while process.poll() is None and updates_recorded(workdir) < max(whole, 1):
            time.sleep(0.002)
        time.sleep((moment - whole) / EVERY * LONGEST_WAIT)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            return None
        kills.append(updates_recorded(workdir))
    finish(start(workdir, estimator))
    expected, found = weights(alone), weights(workdir)
    same = expected.keys() == found.keys() and all(
        expected[name].tobytes() == found[name].tobytes() for name in expected
    )
    return Outcome(estimator, kills, same, history(alone) == history(workdir))


def drawn(estimators: Collection[str], draw: random.Random) -> Iterator[str]:
    """Without end: all of them in random order, then all again."""
    while True:
        yield from draw.sample(list(estimators), k=len(estimators))


def kill_test(
    folder: Path, runs: int, kills: int, seed: int, estimators: Collection[str] = tuple(ESTIMATORS)
) -> list[Outcome]:
    """The outcomes of `runs` runs, each killed `kills` times, in turn."""
    draw = random.Random(seed)
    outcomes: list[Outcome] = []
    for number, estimator in enumerate(itertools.islice(drawn(estimators, draw), runs), 1):
        alone = folder / f"{estimator}-alone"
        if not alone.exists():
            finish(start(alone, estimator))
        outcome = None
        for attempt in itertools.count():
            moments = sorted(draw.uniform(0, NUM_META_UPDATES) for _ in range(kills))
            workdir = folder / f"run-{number}-{attempt}"
            outcome = run_killed(workdir, estimator, alone, moments)
            if outcome is not None:  # else the run had ended: other moments
                break
        outcomes.append(outcome)
        print(
            f"run {number:2d}: {estimator} killed after update "
            f"{', '.join(map(str, outcome.kills))}; weights "
            f"{'same' if outcome.same_weights else 'DIFFER'}, history "
            f"{'same' if outcome.same_history else 'DIFFERS'}",
            flush=True,
        )
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--kills", type=int, default=1, help="of each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--estimators", nargs="+", default=list(ESTIMATORS), choices=ESTIMATORS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = kill_test(
            Path(folder), options.runs, options.kills, options.seed, options.estimators
        )
    same = sum(o.same_weights and o.same_history for o in outcomes)
    print(f"{same} of {len(outcomes)} resumed runs are bit-identical to one that was left alone.")
    return 0 if same == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
