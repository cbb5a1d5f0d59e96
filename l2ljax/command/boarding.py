"""`l2ljax board`: every optimizer on every task of the suite, cell by cell."""

import argparse
import json
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from l2ljax.base.words import hint
from l2ljax.bundled import pretrained_names
from l2ljax.checks import is_number, short
from l2ljax.command.arguments import Parser, UsageError, add_quiet, integer, sayer
from l2ljax.command.process import set_up
from l2ljax.experiments import board, board_page, board_pictures, contestants
from l2ljax.storage.workdir import check_writable, make_directory, write_atomically
from l2ljax.tasks.suite import ENTRIES

HELP = """\
Runs every optimizer on every task of the suite; then writes its tables and pictures.

It takes hours, cell by cell: cells that are done are kept in --cells, one JSON file each, and not
run again. --quick takes minutes: small tasks, 100 steps, few optimizers. Pictures need matplotlib
(pip install "l2ljax[plots]"), tasks of images their data sets (pip install "l2ljax[data]").

exit codes:
  0 done   2 bad input

examples:
  l2ljax board --quick
  l2ljax board --steps=1000 --out=docs/results/board
  l2ljax board --optimizers=adam,nominal-suite --tasks=rosenbrock --steps=100
"""

QUICK_TASKS = ("quadratic", "digits-relu-32", "rosenbrock", "wine-softmax", "teacher-8")
QUICK_OPTIMIZERS = (
    "adam",
    "nag",
    "adam-1e-3",
    "optlist-0",
    "lstm-mnist",
    "nominal-suite",
    "enduring-suite",
)
QUICK_STEPS, STEPS, LONG = [100], [100, 1000], 10_000


def parser() -> Parser:
    """Of what stands behind `l2ljax board`."""
    made = Parser("l2ljax board", HELP)
    made.add_argument("--quick", action="store_true", help="small tasks, 100 steps")
    made.add_argument("--cells", default="runs/board", help="folder of the cells")
    made.add_argument("--out", help="for tables and pictures; default: results/ in --cells")
    made.add_argument("--steps", type=_listed(integer(1)), help="numbers of steps; 100,1000")
    made.add_argument("--tasks", type=_listed(str), help="names of the suite; default: all")
    made.add_argument("--optimizers", type=_listed(str), help="names; default: all")
    made.add_argument(
        "--envelopes",
        metavar="FILE",
        help='published curves by their names, JSON: {name: {"steps": [...], "loss": [...]}}',
    )
    made.add_argument("--published", metavar="DIR", help="other people's weights")
    made.add_argument("--num_tasks", type=integer(1), help=f"optimizees a cell; {board.NUM_TASKS}")
    made.add_argument("--seed", type=integer(0), help="of optimizees and minibatches; 0")
    made.add_argument("--draw_only", action="store_true", help="from the cells that are there")
    made.add_argument("--data_dir", help="where TFDS finds its data sets")
    add_quiet(made)
    return made


def run(words: Sequence[str], typed: str) -> int:
    """Runs the command; returns the exit code."""
    del typed
    given = parser().read(words)
    set_up()
    if given.data_dir:
        os.environ["TFDS_DATA_DIR"] = given.data_dir
    say = sayer(given.quiet)
    cells = Path(given.cells)
    out = Path(given.out) if given.out else cells / "results"
    for folder in (cells, out):
        check_writable(folder)
    if given.draw_only:
        _check_alone(given)
    else:
        everyone, envelopes = _contestants(given), _envelopes(given)
        asked = _cells(given, everyone)
        board_page.check_folder(cells, *_draws(given))
        board.run_board(asked, ENTRIES, everyone, cells, envelopes=envelopes, say=say)
    say(_write(cells, out))
    return 0


def _check_alone(given: argparse.Namespace) -> None:
    """Refuses, beside --draw_only, flags of what is run: all cells that are there are drawn."""
    idle = {**dict.fromkeys(vars(given)), "quick": False}
    for name in sorted(set(idle) - {"cells", "out", "draw_only", "quiet"}):
        if getattr(given, name) != idle[name]:
            raise UsageError(
                f"l2ljax board: --draw_only draws all cells in --cells and runs none, so --{name} "
                "would be without effect; leave one of the two out."
            )


def _contestants(given: argparse.Namespace) -> dict[str, contestants.Contestant]:
    """All that there are: hand-made, bundled, published."""
    if given.published and not Path(given.published).is_dir():
        raise UsageError(f"l2ljax board: --published={given.published} is no directory.")
    return {
        **contestants.HAND_MADE,
        **contestants.learned(name for name in pretrained_names() if "cifar" not in name),
        **(contestants.published(given.published) if given.published else {}),
    }


def _cells(given: argparse.Namespace, everyone: Any) -> list[board.Cell]:
    """Those that the flags ask for, long ones of small tasks only."""
    tasks = given.tasks or (QUICK_TASKS if given.quick else list(ENTRIES))
    names = given.optimizers or (QUICK_OPTIMIZERS if given.quick else list(everyone))
    for what, chosen, there in (("task", tasks, ENTRIES), ("optimizer", names, everyone)):
        for name in chosen:
            if name not in there:
                raise UsageError(
                    f"l2ljax board: there is no {what} {short(name)}{hint(name, there)}; there are "
                    f"{', '.join(there)}."
                )
    long_ones = [task for task in tasks if ENTRIES[task].small]
    if given.tasks and any(n >= LONG for n in given.steps or ()) and len(long_ones) < len(tasks):
        left = ", ".join(task for task in tasks if task not in long_ones)
        raise UsageError(
            f"l2ljax board: {LONG:,} steps and more are for the small tasks of the suite, and "
            f"{left} of --tasks is none; leave it out, or give fewer --steps."
        )
    return [
        board.Cell(task, name, num_steps, *_draws(given))
        for num_steps in given.steps or (QUICK_STEPS if given.quick else STEPS)
        for task in (tasks if num_steps < LONG else long_ones)
        for name in names
    ]


def _draws(given: argparse.Namespace) -> tuple[int, int]:
    """The number of optimizees and the seed, as asked for or as always."""
    return given.num_tasks or board.NUM_TASKS, given.seed or 0


def _envelopes(given: argparse.Namespace) -> Any:
    if not given.envelopes:
        return None
    try:
        found = json.loads(Path(given.envelopes).read_text())
    except ValueError as error:
        raise ValueError(f"--envelopes={given.envelopes} is no JSON file ({error}).") from error
    if not (isinstance(found, dict) and all(map(_is_curve, found.values()))):
        raise ValueError(
            f"--envelopes={given.envelopes} must hold an object with a member a published curve, "
            'each {"steps": [...], "loss": [...]} of as many numbers, steps ascending.'
        )
    if not any(entry.envelope in found for entry in ENTRIES.values()):
        known = sorted({entry.envelope for entry in ENTRIES.values() if entry.envelope})
        raise ValueError(
            f"--envelopes={given.envelopes} has no curve of a task of the suite; their names are "
            f"{', '.join(known)}."
        )
    return found


def _is_curve(given: Any) -> bool:
    if not isinstance(given, dict):
        return False
    steps, loss = given.get("steps"), given.get("loss")
    if not (isinstance(steps, list) and isinstance(loss, list) and len(steps) == len(loss) > 0):
        return False
    return all(map(is_number, [*steps, *loss])) and all(a < b for a, b in pairwise(steps))


def _write(cells: Path, out: Path) -> str:
    """Tables, one file of figures and pictures; what there is to say of them."""
    found = board_page.read_cells(cells)
    if not found:
        raise ValueError(f"There are no cells in {cells}; leave --draw_only out to run them.")
    make_directory(out)
    runs = next(iter(found.values()))["num_tasks"]  # of all the same, or they were not read
    page = f"# The board's tables, {runs} runs a task\n\n{board_page.page(found)}"
    write_atomically(out / "board.json", board_page.one_file(found))
    write_atomically(out / "tables.md", page)
    try:
        pictures = board_pictures.draw(found, out)
    except ModuleNotFoundError as error:  # the tables are what was asked for
        return f"{page}\nTables in {out}. {error}"
    return "\n".join([page, *map(str, pictures)])


def _listed(kind: Any) -> Any:
    """A kind of argument: several, with commas between."""

    def convert(text: str) -> list[Any]:
        found = [kind(word.strip()) for word in text.split(",") if word.strip()]
        if not found:
            raise argparse.ArgumentTypeError("names none; give one or several, or leave it out")
        return list(dict.fromkeys(found))

    return convert
