"""Evaluates a finished run beside tuned baselines: a table, a figure and the numbers.

    python scripts/evaluate.py --workdir=runs/quadratic
    python scripts/evaluate.py --weights=lstm-mnist --task='{"hidden_sizes": [40]}' --output=runs/40

Writes summary.json, curves.csv and curves.png to WORKDIR/evaluation/, or to OUTPUT.
"""

import json
from pathlib import Path
from typing import Any

from _common import one_sentence_errors, run, set_up
from absl import flags
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from l2ljax.evaluation import BASELINES, report
from l2ljax.experiments import comparison

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of a finished run.")
WEIGHTS = flags.DEFINE_string("weights", None, "Or: a bundled optimizer, or a .safetensors file.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS finds its data sets.")
NUM_TASKS = flags.DEFINE_integer("num_tasks", None, "Optimizees; default: the configuration's.")
NUM_STEPS = flags.DEFINE_integer("num_steps", None, "Inner steps; default: the configuration's.")
SEED = flags.DEFINE_integer("seed", None, "Default: the configuration's.")
TUNING_STEPS = flags.DEFINE_integer(
    "num_tuning_steps", None, "Steps that learning rates are tuned for; default: all."
)
TASK = flags.DEFINE_string("task", "{}", "JSON: the task's arguments that differ from training.")
BESIDE = flags.DEFINE_multi_string(
    "beside", [], "NAME=WEIGHTS of another learned optimizer to show; may be repeated."
)
FINAL_BATCHES = flags.DEFINE_integer(
    "final_batches", None, "Minibatches to average the final parameters' loss over, too."
)
OUTPUT = flags.DEFINE_string("output", None, "Directory; default: WORKDIR/evaluation.")
flags.mark_flags_as_mutual_exclusive(["workdir", "weights"], required=True)


def main(argv: list[str]) -> None:
    del argv
    set_up()
    flag_values = {
        "num_tasks": NUM_TASKS.value,
        "num_steps": NUM_STEPS.value,
        "num_tuning_steps": TUNING_STEPS.value,
        "seed": SEED.value,
        "final_batches": FINAL_BATCHES.value,
    }
    overrides: dict[str, Any] = {k: v for k, v in flag_values.items() if v is not None}
    names = ["learned", *BASELINES, *BESIDE.value]
    with one_sentence_errors(), Progress() as bar:
        if TASK.value != "{}":
            try:
                overrides["task"] = json.loads(TASK.value)
            except ValueError as error:
                raise ValueError(f"--task must be JSON, got {TASK.value!r} ({error}).") from error
        for entry in BESIDE.value:
            name, given, weights = entry.partition("=")
            if not (name and given and weights):
                raise ValueError(f"--beside must be NAME=WEIGHTS, got {entry!r}.")
            if name in overrides.setdefault("beside", {}):
                raise ValueError(f"--beside gives the name {name!r} twice; give another name.")
            overrides["beside"][name] = weights
        if WEIGHTS.value and not OUTPUT.value:
            raise ValueError("--weights needs --output=DIRECTORY for what is written.")
        directory = Path(OUTPUT.value or Path(str(WORKDIR.value)) / "evaluation")
        task = bar.add_task("evaluating", total=len(names))
        options = {
            "data_dir": DATA_DIR.value,
            "on_done": lambda name: bar.update(
                task, advance=1, description=f"evaluated {escape(name)}"
            ),
        }
        if WEIGHTS.value:
            summary, curves = comparison.evaluate_weights(WEIGHTS.value, overrides, **options)
        else:
            summary, curves = comparison.evaluate_run(str(WORKDIR.value), overrides, **options)
    with one_sentence_errors():
        comparison.write_results(directory, summary, curves)
        Console().print(report.table(summary))
        report.save_curves(directory)
    print(f"Numbers in {directory}/summary.json and curves.csv, figure in {directory}/curves.png")


if __name__ == "__main__":
    run(main)
