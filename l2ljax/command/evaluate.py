"""`l2ljax evaluate`: a trained optimizer beside tuned baselines."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from l2ljax.command.arguments import Parser, add_quiet, integer, sayer
from l2ljax.command.process import set_up
from l2ljax.evaluation import BASELINES, report
from l2ljax.experiments import comparison

HELP = """\
Evaluates a finished run beside tuned baselines: a table, a figure and the numbers.

Writes summary.json, curves.csv and curves.png to WORKDIR/evaluation/, or to --output. The figure
needs matplotlib: pip install "l2ljax[plots]".

exit codes:
  0 done   2 bad input

examples:
  l2ljax evaluate --workdir=runs/quadratic
  l2ljax evaluate --workdir=runs/quadratic --num_steps=1000 --beside=paper=lstm-quadratic
  l2ljax evaluate --weights=lstm-mnist --task='{"hidden_sizes": [40]}' --output=runs/40
"""

OVERRIDES = {
    "num_tasks": "optimizees",
    "num_steps": "inner steps",
    "seed": "of optimizees and minibatches",
    "num_tuning_steps": "steps that learning rates are tuned for; default: all",
    "final_batches": "minibatches to average the final parameters' loss over, too",
}
"""Flags that replace a number of the configuration's `evaluation`."""


def parser() -> Parser:
    """Of what stands behind `l2ljax evaluate`."""
    made = Parser("l2ljax evaluate", HELP)
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--workdir", help="directory of a finished run")
    what.add_argument("--weights", help="or: a bundled optimizer, or a .safetensors file")
    made.add_argument("--data_dir", help="where TFDS finds its data sets")
    for name, text in OVERRIDES.items():
        more = "" if "default" in text else "; default: the configuration's"
        made.add_argument(f"--{name}", type=integer(0 if name == "seed" else 1), help=text + more)
    made.add_argument(
        "--task", metavar="JSON", help="the task's arguments that differ from training"
    )
    made.add_argument(
        "--beside", action="append", default=[], metavar="NAME=WEIGHTS",
        help="another learned optimizer to show; may be repeated",
    )  # fmt: skip
    made.add_argument("--output", help="directory; default: WORKDIR/evaluation")
    add_quiet(made)
    return made


def run(words: Sequence[str], typed: str) -> int:
    """Runs the command; returns the exit code."""
    del typed
    arguments = parser().read(words)
    overrides = _overrides(arguments)
    if arguments.weights and not arguments.output:
        raise ValueError("--weights needs --output=DIRECTORY for what is written.")
    directory = Path(arguments.output or Path(arguments.workdir) / "evaluation")
    set_up()
    names = ["learned", *BASELINES, *arguments.beside]
    with Progress(disable=arguments.quiet) as bar:
        task = bar.add_task("evaluating", total=len(names))
        options = {
            "data_dir": arguments.data_dir,
            "on_done": lambda name: bar.update(
                task, advance=1, description=f"evaluated {escape(name)}"
            ),
        }
        if arguments.weights:
            found = comparison.evaluate_weights(arguments.weights, overrides, **options)
        else:
            found = comparison.evaluate_run(arguments.workdir, overrides, **options)
    comparison.write_results(directory, *found)
    Console(quiet=arguments.quiet).print(report.table(found[0]))
    say = sayer(arguments.quiet)
    numbers = f"Numbers in {directory}/summary.json and curves.csv"
    try:
        report.save_curves(directory)
    except ImportError as error:  # the numbers are what was asked for
        say(f"{numbers}. {error}")
    else:
        say(f"{numbers}, figure in {directory}/curves.png")
    return 0


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Entries of the configuration's `evaluation` that the flags replace."""
    given = {name: getattr(arguments, name) for name in OVERRIDES}
    overrides: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if arguments.task is not None:
        try:
            overrides["task"] = json.loads(arguments.task)
        except ValueError as error:
            raise ValueError(f"--task must be JSON, got {arguments.task!r} ({error}).") from error
    for entry in arguments.beside:
        name, given, weights = entry.partition("=")
        if not (name and given and weights):
            raise ValueError(f"--beside must be NAME=WEIGHTS, got {entry!r}.")
        if name in overrides.setdefault("beside", {}):
            raise ValueError(f"--beside gives the name {name!r} twice; give another name.")
        overrides["beside"][name] = weights
    return overrides
