r"""Two dozen numbers of `nominal` from scratch on two cores, by CMA-ES on training tasks.

    python benchmarks/quality/search_rule.py --notold --minutes=60 --out=runs/orthogonal-suite
    python benchmarks/quality/search_rule.py --told --minutes=60 --out=runs/orthogonal-suite-steps \
        --initial=runs/orthogonal-suite/search.pickle

The rule is `nominal` without a hidden layer and with an orthogonal direction beside Adam's: its
sizes, drifts and mixtures are linear in the statistics of a tensor. Of its 154 numbers (told: 175)
those that can matter (`search_numbers`) are searched with `cma` (Hansen 2016, arXiv:1604.00772),
which needs final losses alone (`search_scores`); one core is enough. Adam is tuned and run as on
the board, before the search. A search goes on where it was cut.
"""

import pickle
import time
from pathlib import Path

from absl import app, flags
from search_numbers import optimizer_for, weights_at
from search_scores import TASKS, generation, new_search, program, reached_by_adam

from l2ljax import save_optimizer
from l2ljax.storage.workdir import write_atomically

TOLD = flags.DEFINE_bool("told", True, "Tell it the number of steps.")
MINUTES = flags.DEFINE_float("minutes", 60.0, "In all, after which no generation begins.")
OUT = flags.DEFINE_string("out", "runs/search", "Folder of the search, its best and its mean.")
ADAM = flags.DEFINE_string("adam", "runs/search-adam", "Folder of tuned Adam's cells.")
SEED = flags.DEFINE_integer("seed", 7, "Of the search.")
INITIAL = flags.DEFINE_string("initial", None, "Kept search without --told to go on from, told.")
CHOSEN = flags.DEFINE_list("tasks", None, "Of TASKS; default: all.")


def main(argv: list[str]) -> None:
    del argv
    if INITIAL.value and not TOLD.value:
        raise app.UsageError("--initial is for --told: an untold search begins from nothing.")
    told, folder, before = TOLD.value, Path(str(OUT.value)), 0.0
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "search.pickle"
    search = new_search(told, SEED.value, INITIAL.value)
    if state.exists():
        before, search = pickle.loads(state.read_bytes())
    began = time.time()
    names = CHOSEN.value or list(TASKS)
    reached = {name: reached_by_adam(name, told, Path(str(ADAM.value))) for name in names}
    programs = {name: program(name, told) for name in names}
    while (minutes := before + (time.time() - began) / 60) < MINUTES.value:
        mean, _ = generation(search, told, programs, reached)
        for name, x in {"best": search.result.xbest, "mean": mean}.items():
            path = folder / f"{name}.safetensors"
            save_optimizer(path, optimizer_for(told, 1000), weights_at(x, told))
        write_atomically(state, pickle.dumps((minutes, search)))


if __name__ == "__main__":
    app.run(main)
