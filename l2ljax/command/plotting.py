"""`l2ljax plot`: meta-training curves of runs as a picture."""

from collections.abc import Sequence

from l2ljax.command.arguments import Parser, add_quiet, sayer
from l2ljax.command.process import set_up
from l2ljax.experiments.run_report import save_training_curves

HELP = """\
Draws meta-loss and validation loss of runs, finished or not, into one picture.

Runs whose configurations differ in the seed only become one curve, their median, in a band from the
lowest to the highest. Needs matplotlib: pip install "l2ljax[plots]".

exit codes:
  0 done   2 bad input

examples:
  l2ljax plot runs/demo --out=demo.png
  l2ljax plot runs/seed0 runs/seed1 runs/seed2 --out=seeds.svg
  l2ljax plot runs/wide runs/narrow --out=both.pdf --seconds
"""


def parser() -> Parser:
    """Of what stands behind `l2ljax plot`."""
    made = Parser("l2ljax plot", HELP)
    made.add_argument("workdirs", nargs="+", metavar="RUN", help="directory of a run")
    made.add_argument("--out", metavar="FILE.png", required=True, help=".png, .svg or .pdf")
    made.add_argument("--seconds", action="store_true", help="against seconds, not meta-updates")
    add_quiet(made)
    return made


def run(words: Sequence[str], typed: str) -> int:
    """Runs the command; returns the exit code."""
    del typed
    given = parser().read(words)
    set_up()
    path = save_training_curves(given.workdirs, given.out, against_seconds=given.seconds)
    sayer(given.quiet)(f"Wrote {path}")
    return 0
