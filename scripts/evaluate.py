"""Evaluates a finished run beside tuned baselines: a table, a figure and the numbers.

    python scripts/evaluate.py --workdir=runs/quadratic

Writes summary.json, curves.csv and curves.png to WORKDIR/evaluation/.
"""

import json
from pathlib import Path

from _common import one_sentence_errors, run, set_up
from absl import flags
from rich.console import Console
from rich.progress import Progress

from l2ljax import experiment, report
from l2ljax.evaluate import BASELINES

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of a finished run.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS finds its data sets.")
NUM_TASKS = flags.DEFINE_integer("num_tasks", None, "Optimizees; default: the configuration's.")
NUM_STEPS = flags.DEFINE_integer("num_steps", None, "Inner steps; default: the configuration's.")
SEED = flags.DEFINE_integer("seed", None, "Default: the configuration's.")
TASK = flags.DEFINE_string("task", "{}", "JSON: the task's arguments that differ from training.")
OUTPUT = flags.DEFINE_string("output", None, "Directory; default: WORKDIR/evaluation.")


def main(argv: list[str]) -> None:
    del argv
    set_up()
    flag_values = {"num_tasks": NUM_TASKS.value, "num_steps": NUM_STEPS.value, "seed": SEED.value}
    overrides = {name: value for name, value in flag_values.items() if value is not None}
    names = ["learned", *BASELINES]
    with one_sentence_errors(), Progress() as bar:
        if TASK.value != "{}":
            overrides["task"] = json.loads(TASK.value)
        task = bar.add_task("evaluating", total=len(names))
        summary, curves = experiment.evaluate_run(
            WORKDIR.value,
            overrides,
            data_dir=DATA_DIR.value,
            on_done=lambda name: bar.update(task, advance=1, description=f"evaluated {name}"),
        )
    directory = Path(OUTPUT.value or Path(WORKDIR.value) / "evaluation")
    experiment.write_results(directory, summary, curves)
    Console().print(report.table(summary))
    report.save_curves(directory)
    print(f"Numbers in {directory}/summary.json and curves.csv, figure in {directory}/curves.png")


if __name__ == "__main__":
    run(main)
