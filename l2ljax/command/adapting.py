"""`l2ljax adapt`: bundled weights, trained on for a task of one's own."""

import json
from collections.abc import Sequence
from pathlib import Path

import jax
from rich.console import Console

from l2ljax.command.arguments import Parser, add_quiet, integer, sayer
from l2ljax.command.process import set_up
from l2ljax.evaluation import report
from l2ljax.experiments import adapt

HELP = """\
Adapts a learned optimizer to a task of your own, and says whether it is worth using.

FILE.py holds an l2ljax.Task named task; FILE.py:attribute names another, or a function without
arguments that returns one. Writes adapted.safetensors, with its card, and evaluation/ to WORKDIR;
l2ljax.load_optimizer and l2ljax.pretrained read the former.

exit codes:
  0 done   2 bad input

examples:
  l2ljax adapt --weights=lstm-mnist --task=teacher.py --minutes=9 --workdir=runs/teacher
  l2ljax adapt --weights=nominal-suite --task=mine.py:task --minutes=30 --workdir=runs/mine
"""


def parser() -> Parser:
    """Of what stands behind `l2ljax adapt`."""
    made = Parser("l2ljax adapt", HELP)
    made.add_argument("--weights", required=True, help="a bundled optimizer, or a file")
    made.add_argument("--task", required=True, help="FILE.py, or FILE.py:attribute")
    made.add_argument("--minutes", required=True, type=float, help="in all, at most")
    made.add_argument("--workdir", required=True, help="for what is written")
    made.add_argument("--num_steps", type=integer(1), default=100, help="of an episode")
    made.add_argument("--num_tasks", type=integer(1), help="a meta-update; default: what fits")
    made.add_argument("--num_eval_tasks", type=integer(1), default=64, help="of the comparison")
    made.add_argument("--num_meta_updates", type=integer(1), help="default: what fits")
    made.add_argument("--learning_rate", type=float, default=1e-3, help="of the meta-optimizer")
    made.add_argument("--estimator", metavar="JSON", help='such as {"name": "pes", ...}')
    made.add_argument("--weights_of_steps", default="all", help='"all", "rising" or "last"')
    made.add_argument("--labels", help="of a partition, instead of its own")
    made.add_argument("--seed", type=integer(0), default=0, help="of everything random")
    add_quiet(made)
    return made


def run(words: Sequence[str], typed: str) -> int:
    """Runs the command; returns the exit code."""
    given = parser().read(words)
    try:
        estimator = json.loads(given.estimator) if given.estimator else None
    except ValueError as error:
        raise ValueError(f"--estimator must be JSON ({error}), {given.estimator!r}.") from error
    set_up()
    say = sayer(given.quiet)
    result = adapt(
        given.weights,
        given.task,
        minutes=given.minutes,
        key=jax.random.key(given.seed),
        num_steps=given.num_steps,
        num_tasks=given.num_tasks,
        num_eval_tasks=given.num_eval_tasks,
        num_meta_updates=given.num_meta_updates,
        learning_rate=given.learning_rate,
        estimator=estimator,
        weights_of_steps=given.weights_of_steps,
        labels=given.labels,
        workdir=given.workdir,
        command=typed,
        progress=not given.quiet,
        tell=say,
    )
    folder = Path(given.workdir) / "evaluation"
    summary = json.loads((folder / "summary.json").read_text())
    Console(quiet=given.quiet).print(report.table(summary))
    say(f"{result.verdict}\nWeights in {result.path}, numbers in {folder}/summary.json.")
    try:
        report.save_curves(folder)
    except ImportError as error:  # the numbers are what was asked for
        say(str(error))
    return 0
