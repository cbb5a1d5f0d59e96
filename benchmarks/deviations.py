"""What each deviation from the paper and its released code does: MNIST, a short meta-training each.

    python benchmarks/deviations.py --data_dir=../shared/tfds --out=docs/results/deviations

Every run differs from the reference, configs/mnist.py at `BUDGET`, in the flags of `RUNS` only.
Runs that --runs holds finished are not trained again, and interrupted ones go on. All are evaluated
on the same fresh optimizees; where a deviation changes the task, baselines are tuned there too.
"""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
from absl import app, flags

from l2ljax import checkpoint
from l2ljax.comparison import evaluate_weights
from l2ljax.deviations import save_deviations
from l2ljax.evaluate import BASELINES, bootstrap_ci95
from l2ljax.experiment import build, hardware
from l2ljax.meta_train import init_state
from l2ljax.pretrained import load_optimizer, save_optimizer
from l2ljax.workdir import read_config, write_atomically

DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS finds MNIST.")
WORKDIRS = flags.DEFINE_string("runs", "runs/deviations", "Folder of the runs.")
OUT = flags.DEFINE_string("out", "docs/results/deviations", "Folder for the JSON and the figure.")
TRAIN = flags.DEFINE_bool("train", True, "Train what is missing; otherwise leave it out.")

BUDGET = (
    "--config.num_meta_updates=400",
    "--config.meta_optimizer.restarts=()",
    "--config.validation.every=50",
)
ABOUT = (
    "The optimizer for MNIST, meta-trained for 400 whole episodes (40,000 inner steps) instead of "
    "3,500, each run differing from the reference in one setting: the effects are those at this "
    "short budget."
)
WINDOWS = (
    "--config.unroll_length=20",
    "--config.num_meta_updates=2000",
    "--config.validation.every=250",
)
SCALE, LOG_SIGN = "--config.optimizer.output_scale=0.01", "--config.optimizer.preprocess.p=5.0"
START, ALL = "--config.task.init_stddev=0.01", "--config.estimator.coordinate_share=1.0"
ADAM = (
    "--config.meta_optimizer.learning_rate=0.001",
    "--config.meta_optimizer.schedule=constant",
    "--config.meta_optimizer.clip_norm=1e9",
)
RUNS = {
    "reference": ("reference", ()),
    "reference-seed-1": ("reference, seed 1", ("--config.seed=1",)),
    "reference-seed-2": ("reference, seed 2", ("--config.seed=2",)),
    "last-only": ("meta-loss of the last step only", ("--config.weights=last",)),
    "windows": ("windows of 20, as many inner steps", WINDOWS),
    "all-coordinates": ("all coordinates in the backward pass", (ALL,)),
    "adam-constant": ("meta-Adam 0.001, constant, not clipped", ADAM),
    "output-scale": ("output scale 0.01", (SCALE,)),
    "log-sign-5": ("log and sign, p = 5", (LOG_SIGN,)),
    "init": ("start of the optimizees 0.01", (START,)),
    "released-code": ("all of the released code's", (*WINDOWS, ALL, *ADAM, SCALE, LOG_SIGN, START)),
}
"""Name -> title and flags. On the left of a title in the figure: better than the reference."""

EVALUATION = {"num_tasks": 64, "num_tuning_tasks": 32, "seed": 0}
BESIDE = {name: BASELINES[name] for name in ("adam", "nag")}


def main(argv: list[str]) -> None:
    del argv
    out, found = Path(OUT.value), {"about": ABOUT, **EVALUATION, "hardware": hardware()}
    found |= {"num_steps": 100, "optimizers": {}, "runs": {}}
    finals = {}
    for name, (title, changes) in RUNS.items():
        workdir = Path(WORKDIRS.value) / name
        command = ["scripts/meta_train.py", "--config=configs/mnist.py", f"--workdir={workdir}"]
        command += [*BUDGET, *changes]
        weights = workdir / "meta_params.safetensors"
        if TRAIN.value:
            data = [f"--data_dir={DATA_DIR.value}"] * (DATA_DIR.value is not None)
            subprocess.run([sys.executable, *command, *data], check=True)
        elif not weights.exists():
            print(f"{name} is not trained: left out.")
            continue
        other_task = START in changes
        sources = {name: (title, weights)}
        if name == "reference":
            last = save_last(workdir, weights.with_name("last.safetensors"))
            sources["last"] = ("the last instead of the best by validation", last)
        for key, (title, path) in sources.items():
            baselines = BESIDE if name in ("reference", "init") and path == weights else {}
            summary, curves = evaluate_weights(
                path, EVALUATION, baselines=baselines, data_dir=DATA_DIR.value
            )
            metadata = load_optimizer(path)[2]
            optimizers = summary["optimizers"]
            if key == "reference":
                for baseline in BESIDE:
                    found["optimizers"][baseline] = optimizers.pop(baseline)
            finals[key] = curves["lstm"].losses[:, -1]
            found["runs"][key] = {
                "title": title,
                "command": " ".join(["python", *command]),
                **{field: metadata[field] for field in ("seconds", "best_update")},
                "difference": None if other_task else difference(finals[key], finals["reference"]),
                "optimizers": optimizers,
            }
            print(key, json.dumps(optimizers["lstm"]["final_loss"]), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "deviations.json", json.dumps(found, indent=1) + "\n")
    save_deviations(out / "deviations.json")


def difference(final: np.ndarray, reference: np.ndarray) -> dict:
    """Of mean final losses on the same optimizees, `[num_tasks]`, with its 95 % interval."""
    low, high = bootstrap_ci95(final - reference)
    return {"mean": float((final - reference).mean()), "ci95": [float(low), float(high)]}


def save_last(workdir: Path, path: Path) -> Path:
    """The meta-parameters after a run's last update, out of its checkpoint, as a weights file."""
    config = read_config(workdir)
    experiment = build(config, DATA_DIR.value)
    like = init_state(
        experiment.estimator,
        experiment.meta_optimizer,
        experiment.optimizer.init(jax.random.key(0)),
        jax.random.key(0),
    )
    with checkpoint.open_checkpoints(workdir / "checkpoints") as manager:
        restored = checkpoint.restore(manager, like)
    if restored is None:
        raise FileNotFoundError(f"There is no checkpoint in {workdir}; train it again.")
    metadata = load_optimizer(workdir / "meta_params.safetensors")[2]
    metadata["best_update"] = config["num_meta_updates"]
    save_optimizer(path, metadata.pop("optimizer"), restored[0].meta_params, metadata)
    return path


if __name__ == "__main__":
    app.run(main)
