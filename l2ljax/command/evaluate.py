"""`l2ljax evaluate`: a trained optimizer beside tuned baselines."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from l2ljax.command.arguments import Parser, add_quiet, integer, sayer
from l2ljax.command.process import set_up
from l2ljax.command.stages import stage_bar
from l2ljax.evaluation import report
from l2ljax.experiments import comparison
from l2ljax.experiments.kept import forget
from l2ljax.storage.workdir import check_writable

HELP = """\
Evaluates a finished run beside tuned baselines: a table, a figure and the numbers.

Writes summary.json, curves.csv and curves.png to WORKDIR/evaluation/, or to --output. The figure
needs matplotlib: pip install "l2ljax[plots]".

What is finished (a tuned learning rate, an optimizer's results) is kept in its folder unfinished/
until all is; the same command goes on from there, whatever ended it.

exit codes:
  0 done   2 bad input   130 stopped by Ctrl-C

examples:
  l2ljax evaluate --workdir=runs/quadratic
  l2ljax evaluate --workdir=runs/quadratic --num_steps=1000 --beside=paper=lstm-quadratic
  l2ljax evaluate --weights=lstm-mnist --task='{"hidden_sizes": [40]}' --output=runs/40
"""

UNFINISHED = "unfinished"
"""Folder beside summary.json of what is kept until that is written."""

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
    check_writable(directory)
    set_up()
    unfinished = directory / UNFINISHED
    with stage_bar(not arguments.quiet) as bar:
        options = {"data_dir": arguments.data_dir, "keep": unfinished, "tell": bar}
        try:
            if arguments.weights:
                found = comparison.evaluate_weights(arguments.weights, overrides, **options)
            else:
                found = comparison.evaluate_run(arguments.workdir, overrides, **options)
        except KeyboardInterrupt:
            if not arguments.quiet:
                print(stopped(bar.finished, bar.total, unfinished), file=sys.stderr)
            raise
    (directory / "curves.png").unlink(missing_ok=True)  # of other numbers
    comparison.write_results(directory, *found)
    forget(unfinished)
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


def stopped(finished: int, total: int, folder: Path) -> str:
    """What is said of an evaluation that Ctrl-C ended.

    Example:
        >>> stopped(2, 9, Path("evaluation/unfinished"))
        'Stopped. 2 of 9 stages are in evaluation/unfinished; the same command goes on from there.'
        >>> stopped(0, 9, Path("evaluation/unfinished"))
        'Stopped before a stage was finished; nothing is kept.'
    """
    if not finished:
        return "Stopped before a stage was finished; nothing is kept."
    return (
        f"Stopped. {finished} of {total} stages are in {folder}; the same command goes on from "
        "there."
    )


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
