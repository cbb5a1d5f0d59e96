"""What each deviation from the paper and its released code does: a short meta-training each.

    python benchmarks/quality/deviations.py --data_dir=../shared/tfds
    python benchmarks/quality/deviations.py --dataset=digits --runs=runs/digits --out=runs/digits

Every run differs from the reference, configs/mnist.py with `BUDGET`, in the settings of `RUNS`
only. Runs that --runs holds finished are not trained again, interrupted ones go on, and what is in
the JSON is not evaluated again. All are evaluated on the same fresh optimizees; where a deviation
changes the task, baselines are tuned there too.
"""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from l2ljax.bundled import load_optimizer, save_optimizer
from l2ljax.evaluation import BASELINES, mean_ci95
from l2ljax.experiments import experiment
from l2ljax.experiments.comparison import evaluate_weights
from l2ljax.paper.deviations import save_deviations
from l2ljax.storage.workdir import read_config, write_atomically
from l2ljax.training import load_run

DATASET = flags.DEFINE_enum("dataset", "mnist", ["mnist", "digits"], "Images to train on.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS finds MNIST.")
WORKDIRS = flags.DEFINE_string("runs", "runs/deviations", "Folder of the runs.")
OUT = flags.DEFINE_string("out", "docs/results/deviations", "Folder for the JSON and the figure.")
BASELINES_TOO = flags.DEFINE_bool("baselines", True, "Tune Adam and NAG too.")
ONLY = flags.DEFINE_list("only", [], "Names of RUNS; default: all.")

CONFIG = Path(__file__).parents[2] / "configs" / "mnist.py"
BUDGET = {"num_meta_updates": 400, "meta_optimizer.restarts": (), "validation.every": 50}
WINDOWS = {"unroll_length": 20, "num_meta_updates": 2000, "validation.every": 250}
ADAM = {
    "meta_optimizer.learning_rate": 1e-3,
    "meta_optimizer.schedule": "constant",
    "meta_optimizer.clip_norm": 1e9,
}
SCALE = {"optimizer.output_scale": 0.01}
LOG_SIGN = {"optimizer.preprocess.p": 5.0}
START = {"task.init_stddev": 0.01}
ALL = {"estimator.coordinate_share": 1.0}
RUNS = {
    "reference": ("reference", {}),
    "output-scale": ("output scale 0.01", SCALE),
    "log-sign-5": ("log and sign, p = 5", LOG_SIGN),
    "adam-constant": ("meta-Adam 0.001, constant, not clipped", ADAM),
    "init": ("start of the optimizees 0.01", START),
    "all-coordinates": ("all coordinates in the backward pass", ALL),
    "windows": ("windows of 20, as many inner steps", WINDOWS),
    "last-only": ("meta-loss of the last step only", {"weights": "last"}),
    "reference-seed-1": ("reference, seed 1 of meta-training", {"seed": 1}),
    "reference-seed-2": ("reference, seed 2 of meta-training", {"seed": 2}),
    "released-code": (
        "all of the released code's at once",
        WINDOWS | ALL | ADAM | SCALE | LOG_SIGN | START,
    ),
}
"""Name -> title and settings."""

LAST = "the last instead of the best by validation"
ORDER = ["reference", "last", *[name for name in RUNS if name != "reference"]]

ABOUT = (
    "The optimizer of configs/mnist.py, meta-trained on {images} for 400 whole episodes (40,000 "
    "inner steps) instead of 3,500 on MNIST. Each run differs from the reference in one setting; "
    "the effects are those at this short budget, and on these images."
)
IMAGES = {"digits": "scikit-learn's 8 x 8 digits (64-20-10 sigmoid MLP)", "mnist": "MNIST"}
EVALUATION = {"num_tasks": 64, "num_tuning_tasks": 32, "seed": 0}
BESIDE = {name: BASELINES[name] for name in ("adam", "nag")}


def main(argv: list[str]) -> None:
    del argv
    out = Path(OUT.value) / "deviations.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    about = ABOUT.format(images=IMAGES[DATASET.value])
    found = {"about": about, **EVALUATION, "num_steps": 100}
    found |= {"hardware": experiment.hardware(), "optimizers": {}, "runs": {}}
    if out.exists() and (old := json.loads(out.read_text()))["about"] == about:
        found = old
    for name in ONLY.value or RUNS:
        workdir = Path(WORKDIRS.value) / name
        weights = workdir / "meta_params.safetensors"
        if not weights.exists():
            train(name, workdir)
        if name not in found["runs"]:
            found["runs"][name] = measure(name, weights, found)
        write(out, found)
    if "last" not in found["runs"]:
        workdir = Path(WORKDIRS.value) / "reference"
        last = save_last(workdir, workdir / "last.safetensors")
        found["runs"]["last"] = measure("last", last, found)
        write(out, found)
    if BASELINES_TOO.value:
        add_baselines(found)
        write(out, found)
    save_deviations(out)


def write(out: Path, found: dict[str, Any]) -> None:
    """What there is so far, in the order of `ORDER`."""
    found["runs"] = {key: found["runs"][key] for key in ORDER if key in found["runs"]}
    write_atomically(out, json.dumps(found, indent=1) + "\n")


def settings(name: str) -> dict[str, Any]:
    """What the run's configuration replaces in configs/mnist.py, by dotted names."""
    return BUDGET | {"task.dataset.name": DATASET.value} | RUNS[name][1]


def command(name: str) -> str:
    """What trains the run, as typed in the repository's root."""
    replaced = [f"--config.{field}={value}" for field, value in settings(name).items()]
    start = "python scripts/meta_train.py --config=configs/mnist.py"
    return " ".join([start, f"--workdir={WORKDIRS.value}/{name}", *replaced])


def train(name: str, workdir: Path) -> None:
    """As `command` would."""
    config = runpy.run_path(str(CONFIG))["get_config"]()
    config.update_from_flattened_dict(settings(name))
    experiment.run(
        config.to_dict(), workdir, command=command(name), data_dir=DATA_DIR.value, num_devices=1
    )


def measure(name: str, weights: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Evaluates a run."""
    source = "reference" if name == "last" else name
    title, changes = RUNS[source]
    summary, curves = evaluate_weights(weights, EVALUATION, baselines={}, data_dir=DATA_DIR.value)
    metadata, optimizers = load_optimizer(weights)[2], summary["optimizers"]
    finals = curves["lstm"].losses[:, -1]
    run = {
        "title": LAST if name == "last" else title,
        "command": command(source),
        "seconds": metadata["seconds"],
        "best_update": metadata["best_update"],
        "final_losses": [float(f"{loss:.6g}") for loss in finals],
        "optimizers": optimizers,
    }
    if "task.init_stddev" not in changes and name != "reference":
        run["difference"] = difference(finals, found["runs"]["reference"]["final_losses"])
    print(name, json.dumps(optimizers["lstm"]["final_loss"]), flush=True)
    return run


def add_baselines(found: dict[str, Any]) -> None:
    """Tunes them on the reference's task, and on the one that has another start."""
    for name, rows in (
        ("reference", found["optimizers"]),
        ("init", found["runs"].get("init", {}).get("optimizers")),
    ):
        if rows is not None and not set(BESIDE) <= set(rows):
            weights = Path(WORKDIRS.value) / name / "meta_params.safetensors"
            summary, _ = evaluate_weights(
                weights, EVALUATION, baselines=BESIDE, data_dir=DATA_DIR.value
            )
            rows |= {key: summary["optimizers"][key] for key in BESIDE}


def difference(final: np.ndarray, reference: list[float]) -> dict[str, Any]:
    """Of mean final losses on the same optimizees, with its 95 % interval."""
    differences = final - np.asarray(reference)
    low, high = mean_ci95(differences)
    return {"mean": float(differences.mean()), "ci95": [float(low), float(high)]}


def save_last(workdir: Path, path: Path) -> Path:
    """The meta-parameters after a run's last update, out of its checkpoint, as a weights file."""
    config = read_config(workdir)
    metadata = load_optimizer(workdir / "meta_params.safetensors")[2]
    metadata["best_update"] = config["num_meta_updates"]
    save_optimizer(path, metadata.pop("optimizer"), load_run(workdir).last_meta_params, metadata)
    return path


if __name__ == "__main__":
    app.run(main)
