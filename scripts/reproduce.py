"""Makes the paper's figures from the bundled weights, and one HTML report of them all.

    python scripts/reproduce.py --figure=mnist-40-units
    python scripts/reproduce.py --all
    python scripts/reproduce.py --all --quick    # a smoke run, at sizes that mean nothing
    python scripts/reproduce.py --all --redraw   # pictures and report from the numbers there are

Each figure's numbers and picture go to OUTPUT/FIGURE/, the report to OUTPUT/report.html. To train
the weights anew: scripts/meta_train.py with the configuration that l2ljax/paper/figure_list.py
names, and scripts/bundle.py.
"""

import json
import shlex
import sys
import time
from pathlib import Path

import jax
from _common import one_sentence_errors, run, set_up
from absl import flags
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from l2ljax.experiments import hardware
from l2ljax.paper import reproduction as paper
from l2ljax.paper import web
from l2ljax.paper.deviation_list import DEVIATIONS
from l2ljax.paper.figure_list import FIGURES, QUICK
from l2ljax.storage.workdir import write_atomically

FIGURE = flags.DEFINE_multi_string("figure", [], "A name in l2ljax/paper/figure_list.py.")
ALL = flags.DEFINE_bool("all", False, "All of them.")
SMOKE = flags.DEFINE_bool("quick", False, "Sizes of a smoke run.")
REDRAW = flags.DEFINE_bool("redraw", False, "Draw again what was computed before.")
MEASURED = Path(__file__).parents[1] / "docs" / "results" / "deviations"
OUTPUT = flags.DEFINE_string("output", "runs/figures", "Directory of all that is made.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS finds its data sets.")


def chosen(figures: dict) -> list[str]:
    """The figures that the flags ask for."""
    unknown = [name for name in FIGURE.value if name not in figures]
    if unknown or bool(FIGURE.value) == ALL.value:
        what = f"Unknown figure {unknown[0]!r}" if unknown else "Give --figure=NAME or --all"
        raise ValueError(f"{what}; there are {', '.join(figures)}.")
    return list(figures) if ALL.value else FIGURE.value


def main(argv: list[str]) -> None:
    del argv
    set_up()
    output = Path(OUTPUT.value)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with one_sentence_errors(), Progress(*columns, TimeElapsedColumn()) as bar:
        names = chosen(FIGURES)
        task = bar.add_task("figures", total=len(names))
        for name in names:
            bar.update(task, description=name)
            started = time.perf_counter()
            figure = FIGURES[name]
            if SMOKE.value:
                figure = paper.shrink(figure, QUICK)
            if not REDRAW.value:
                paper.compute(figure, output / name, data_dir=DATA_DIR.value)
                made = {
                    "command": shlex.join(["python", *sys.argv]),
                    "seconds": round(time.perf_counter() - started, 1),
                    "hardware": hardware(),
                    "quick": SMOKE.value,
                }
                write_atomically(output / name / "made.json", json.dumps(made, indent=2) + "\n")
            paper.draw(figure, output / name)
            # Compiled programs hold memory maps, of which Linux allows a process 65,530.
            jax.clear_caches()
            bar.update(task, advance=1)
    report = output / "report.html"
    with one_sentence_errors():
        write_atomically(report, web.report(FIGURES, DEVIATIONS, output, MEASURED))
    print(f"Figures in {output}/, all of them in {report}")


if __name__ == "__main__":
    run(main)
