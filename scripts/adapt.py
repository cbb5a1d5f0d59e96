"""Adapts a bundled optimizer, or one in a file, to a task of your own, and says if it is worth it.

    python scripts/adapt.py --weights=lstm-mnist --task=docs/examples/teacher.py --minutes=5 \
        --workdir=runs/teacher

FILE.py holds an l2ljax.Task named task; `--task=FILE.py:attribute` names another, or a function
without arguments that returns one. Writes adapted.safetensors, with its card, and evaluation/ to
WORKDIR; l2ljax.load_optimizer and l2ljax.pretrained read the former.
"""

import json
import shlex
import sys
from pathlib import Path

import jax
from _common import one_sentence_errors, run, set_up
from absl import flags
from rich.console import Console

from l2ljax import adapt
from l2ljax.evaluation import report

WEIGHTS = flags.DEFINE_string(
    "weights", None, "A bundled optimizer's name, or a .safetensors file.", required=True
)
TASK = flags.DEFINE_string("task", None, "FILE.py, or FILE.py:attribute.", required=True)
MINUTES = flags.DEFINE_float("minutes", None, "In all, at most.", required=True)
WORKDIR = flags.DEFINE_string("workdir", None, "For what is written.", required=True)
NUM_STEPS = flags.DEFINE_integer("num_steps", 100, "Inner steps of an episode.")
NUM_TASKS = flags.DEFINE_integer("num_tasks", None, "Optimizees a meta-update; default: what fits.")
NUM_EVAL_TASKS = flags.DEFINE_integer("num_eval_tasks", 64, "Fresh optimizees of the comparison.")
NUM_META_UPDATES = flags.DEFINE_integer("num_meta_updates", None, "Default: what fits.")
LEARNING_RATE = flags.DEFINE_float("learning_rate", 1e-3, "Of the meta-optimizer, Adam.")
ESTIMATOR = flags.DEFINE_string("estimator", None, 'JSON, e.g. {"name": "pes", ...}.')
STEPS = flags.DEFINE_string("weights_of_steps", "all", '"all", "rising" or "last".')
LABELS = flags.DEFINE_string("labels", None, "Of a partition, instead of its own.")
SEED = flags.DEFINE_integer("seed", 0, "Of everything random.")


def main(argv: list[str]) -> None:
    del argv
    set_up()
    with one_sentence_errors():
        try:
            estimator = json.loads(ESTIMATOR.value) if ESTIMATOR.value else None
        except ValueError as error:
            raise ValueError(f"--estimator must be JSON ({error}), {ESTIMATOR.value!r}.") from error
        result = adapt(
            str(WEIGHTS.value),
            str(TASK.value),
            minutes=MINUTES.value,
            key=jax.random.key(SEED.value),
            num_steps=NUM_STEPS.value,
            num_tasks=NUM_TASKS.value,
            num_eval_tasks=NUM_EVAL_TASKS.value,
            num_meta_updates=NUM_META_UPDATES.value,
            learning_rate=LEARNING_RATE.value,
            estimator=estimator,
            weights_of_steps=STEPS.value,
            labels=LABELS.value,
            workdir=WORKDIR.value,
            command=shlex.join(["python", *sys.argv]),
            progress=True,
            tell=print,
        )
    folder = Path(str(WORKDIR.value)) / "evaluation"
    with one_sentence_errors():
        Console().print(report.table(json.loads((folder / "summary.json").read_text())))
        print(f"{result.verdict}\nWeights in {result.path}, numbers in {folder}/summary.json.")
        report.save_curves(folder)


if __name__ == "__main__":
    run(main)
