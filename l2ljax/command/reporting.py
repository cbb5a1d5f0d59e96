"""`l2ljax report`: one HTML page of one or several runs."""

from collections.abc import Sequence
from pathlib import Path

from l2ljax.command.arguments import Parser, add_quiet, sayer
from l2ljax.command.process import set_up
from l2ljax.experiments.run_report import write_report

HELP = """\
Writes one HTML file about runs: curves, evaluation, update rule, configuration, commands.

The file needs no other and no network: send it to anybody. Runs whose configurations differ in the
seed only are summed up by their median. What `l2ljax evaluate` wrote to WORKDIR/evaluation is
shown, too. Needs plotly: pip install "l2ljax[report]".

exit codes:
  0 done   2 bad input

examples:
  l2ljax report runs/demo
  l2ljax report runs/seed0 runs/seed1 runs/seed2 --out=seeds.html
"""


def parser() -> Parser:
    """Of what stands behind `l2ljax report`."""
    made = Parser("l2ljax report", HELP)
    made.add_argument("workdirs", nargs="+", metavar="WORKDIR", help="directory of a run")
    made.add_argument(
        "--out", metavar="FILE.html", help="default: WORKDIR/report.html; of several, report.html"
    )
    add_quiet(made)
    return made


def run(words: Sequence[str], typed: str) -> int:
    """Runs the command; returns the exit code."""
    given = parser().read(words)
    alone = len(given.workdirs) == 1
    out = given.out or (Path(given.workdirs[0]) if alone else Path()) / "report.html"
    set_up()
    path = write_report(given.workdirs, out, command=typed)
    sayer(given.quiet)(f"Wrote {path} ({path.stat().st_size / 1e6:.1f} MB); open it in a browser.")
    return 0
