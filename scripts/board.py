r"""Every optimizer on every task of the suite, resumable; then its tables and pictures.

    python scripts/board.py --quick                        # minutes: small tasks, 100 steps
    python scripts/board.py --steps=1000 --data_dir=../shared/tfds
    python scripts/board.py --optimizers=adam,nominal-suite --tasks=rosenbrock --steps=100

Cells that are done are kept in `--cells`, one JSON file each, and not run again.
"""

import json
import os
from pathlib import Path

from _common import one_sentence_errors, run, set_up
from absl import flags

CELLS = flags.DEFINE_string("cells", "runs/board", "Folder of the cells.")
OUT = flags.DEFINE_string("out", "docs/results/board", "Folder for tables and pictures.")
STEPS = flags.DEFINE_list("steps", ["100", "1000"], "Numbers of steps.")
TASKS = flags.DEFINE_list("tasks", None, "Names of the suite; default: all.")
OPTIMIZERS = flags.DEFINE_list("optimizers", None, "Names; default: all.")
ENVELOPES = flags.DEFINE_string("envelopes", None, "JSON file of the published curves.")
PUBLISHED = flags.DEFINE_string("published", None, "Folder of other people's weights.")
SEED = flags.DEFINE_integer("seed", 0, "Of optimizees and minibatches.")
QUICK = flags.DEFINE_bool("quick", False, "Tasks without downloads, 100 steps, few optimizers.")
DRAW_ONLY = flags.DEFINE_bool("draw_only", False, "Redraw from the cells that are there.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS finds its data sets.")

QUICK_TASKS = ("quadratic", "digits-relu-32", "rosenbrock", "wine-softmax", "teacher-8")
QUICK_OPTIMIZERS = ("adam", "nag", "adam-1e-3", "optlist-0", "lstm-mnist", "nominal-suite")


def main(argv: list[str]) -> None:
    del argv
    with one_sentence_errors():
        set_up()
        make_board()


def make_board() -> None:
    """Runs the cells that are missing, then writes tables, pictures and one file of figures."""
    from l2ljax.bundled import pretrained_names
    from l2ljax.experiments import board, board_page, contestants
    from l2ljax.tasks.suite import ENTRIES

    if DATA_DIR.value:
        os.environ["TFDS_DATA_DIR"] = DATA_DIR.value
    everyone = {
        **contestants.HAND_MADE,
        **contestants.learned(n for n in pretrained_names() if "cifar" not in n),
        **(contestants.published(PUBLISHED.value) if PUBLISHED.value else {}),
    }
    tasks = TASKS.value or (QUICK_TASKS if QUICK.value else list(ENTRIES))
    names = OPTIMIZERS.value or (QUICK_OPTIMIZERS if QUICK.value else list(everyone))
    for what, chosen, there in (("tasks", tasks, ENTRIES), ("optimizers", names, everyone)):
        if unknown := [name for name in chosen if name not in there]:
            raise ValueError(f"Unknown {what} {unknown}; there are {', '.join(there)}.")
    steps = [100] if QUICK.value else [int(n) for n in STEPS.value]
    cells = [
        board.Cell(task, name, n, seed=SEED.value)
        for n in steps
        for task in tasks
        if ENTRIES[task].small or n < 10_000
        for name in names
    ]
    envelopes = json.loads(Path(ENVELOPES.value).read_text()) if ENVELOPES.value else None
    folder, out = Path(CELLS.value), Path(OUT.value)
    if not DRAW_ONLY.value:
        board.run_board(cells, ENTRIES, everyone, folder, envelopes=envelopes)
    found = board_page.read_cells(folder)
    out.mkdir(parents=True, exist_ok=True)
    (out / "board.json").write_text(json.dumps(list(found.values())) + "\n")
    (out / "tables.md").write_text(board_page.page(found))
    pictures = board_page.draw(found, out)
    print(board_page.page(found), *pictures, sep="\n")


if __name__ == "__main__":
    run(main)
