"""From plain data to a run, and to a comparison with tuned baselines.

`run(config, workdir, ...)` meta-trains what a configuration describes (a dict of JSON values; start
from `DEFAULTS`, `FIELDS` tells what there is), `build` only makes its parts; `evaluate_run` and
`evaluate_weights` compare the outcome with baselines, and `write_results` writes what they return.
`adapt` trains what is there already on a task of one's own, in minutes.
A part of one's own is named `"module:attribute"` or `"file.py:attribute"`.
"""

from l2ljax.experiments.adaptation import Adaptation, adapt
from l2ljax.experiments.comparison import evaluate_run, evaluate_weights, write_results
from l2ljax.experiments.experiment import Experiment, build, run
from l2ljax.experiments.fields import DEFAULTS, FIELDS, check_fields, completed
from l2ljax.experiments.machine import hardware
from l2ljax.experiments.meta_optimizers import META_OPTIMIZERS, adam, build_meta_optimizer
from l2ljax.experiments.parts import build_estimator, build_task

__all__ = [
    "DEFAULTS",
    "FIELDS",
    "META_OPTIMIZERS",
    "Adaptation",
    "Experiment",
    "adam",
    "adapt",
    "build",
    "build_estimator",
    "build_meta_optimizer",
    "build_task",
    "check_fields",
    "completed",
    "evaluate_run",
    "evaluate_weights",
    "hardware",
    "run",
    "write_results",
]
