"""`l2ljax reproduce`: the paper's figures from the bundled weights, and one page of them all."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import jax
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from l2ljax.base.words import hint
from l2ljax.checks import short, shorten
from l2ljax.command.arguments import Parser, UsageError, add_quiet, sayer
from l2ljax.command.process import set_up
from l2ljax.evaluation._drawing import matplotlib_pyplot
from l2ljax.experiments.machine import hardware
from l2ljax.paper import reproduction as paper
from l2ljax.paper import web
from l2ljax.paper.deviation_list import DEVIATIONS
from l2ljax.paper.figure_list import FIGURES, QUICK
from l2ljax.storage.workdir import check_writable, write_atomically

HELP = """\
Makes the paper's figures from the bundled weights, and one HTML page of them all.

Each figure's numbers and picture go to OUTPUT/FIGURE/, the page to OUTPUT/report.html. Most figures
need data sets (pip install "l2ljax[data]"), those of pictures photographs (pip install
"l2ljax[art]"), and all of them matplotlib (pip install "l2ljax[plots]"). --quick makes every figure
at sizes that mean nothing; --redraw draws again what was computed before.

exit codes:
  0 done   2 bad input

examples:
  l2ljax reproduce --figure=mnist-40-units
  l2ljax reproduce --figure=quadratic --figure=preprocessing --output=figures
  l2ljax reproduce --all --quick
  l2ljax reproduce --all --redraw
"""

CLONE = Path(__file__).parents[2]
MEASURED = Path("docs", "results", "deviations")
"""In a clone, what was measured of the deviations from the paper; a wheel has none of it."""


def parser() -> Parser:
    """Of what stands behind `l2ljax reproduce`."""
    made = Parser("l2ljax reproduce", HELP)
    which = made.add_mutually_exclusive_group(required=True)
    which.add_argument("--figure", action="append", help=f"one of {', '.join(FIGURES)}")
    which.add_argument("--all", action="store_true", help="all of them")
    made.add_argument("--quick", action="store_true", help="sizes of a smoke run")
    made.add_argument("--redraw", action="store_true", help="draw again what was computed before")
    made.add_argument("--output", default="runs/figures", help="folder of all that is made")
    made.add_argument("--data_dir", help="where TFDS finds its data sets")
    add_quiet(made)
    return made


def run(words: Sequence[str], typed: str) -> int:
    """Runs the command; returns the exit code."""
    given = parser().read(words)
    names = list(FIGURES) if given.all else _checked(given.figure)
    set_up()
    output = Path(given.output)
    check_writable(output)
    matplotlib_pyplot()  # before hours of work, not after
    missed: dict[str, Exception] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), disable=given.quiet) as bar:
        task = bar.add_task("figures", total=len(names))
        for name in names:
            bar.update(task, description=name)
            figure = paper.shrink(FIGURES[name], QUICK) if given.quick else FIGURES[name]
            try:
                if not given.redraw:
                    _compute(figure, output / name, given.data_dir, typed, given.quick)
                paper.draw(figure, output / name)
            except (ImportError, OSError, ValueError) as error:  # a data set that is not there
                if not given.all:
                    raise
                missed[name] = error
            # Compiled programs hold memory maps, of which Linux allows a process 65,530.
            jax.clear_caches()
            bar.update(task, advance=1)
    report = output / "report.html"
    write_atomically(report, web.report(FIGURES, DEVIATIONS, output, _measured(output)))
    if missed:
        why = "; ".join(f"{name} ({shorten(str(error), 200)})" for name, error in missed.items())
        raise ValueError(f"{report} is without {len(missed)} of {len(names)} figures: {why}.")
    sayer(given.quiet)(f"Figures in {output}/, all of them in {report}")
    return 0


def _checked(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in FIGURES:
            raise UsageError(
                f"l2ljax reproduce: there is no figure {short(name)}{hint(name, FIGURES)}; there "
                f"are {', '.join(FIGURES)}."
            )
    return list(names)


def _compute(figure: paper.Figure, directory: Path, data_dir: str | None, typed: str, quick: bool):
    """The numbers of a figure, and how they were made."""
    started = time.perf_counter()
    paper.compute(figure, directory, data_dir=data_dir)
    made = {
        "command": typed,
        "seconds": round(time.perf_counter() - started, 1),
        "hardware": hardware(),
        "quick": quick,
    }
    write_atomically(directory / "made.json", json.dumps(made, indent=2) + "\n")


def _measured(output: Path) -> Path:
    """Where the deviations' numbers are: with the clone's, or else beside the figures."""
    there = CLONE / MEASURED
    return there if there.is_dir() else output / MEASURED.name
