"""The paper's panels beyond 100 steps: optimizers without a rate beside baselines tuned as far.

    python benchmarks/quality/long_panels.py --panels=cifar5-1000 --out=benchmarks/results/panels
    python benchmarks/quality/long_panels.py --panels= --out=benchmarks/results/panels  # the table

Cells as on the board: rates are tuned on two optimizees over all steps that are then reported, on
eight others or more; one JSON file a cell, so that what is there already is not computed again. A
best rate at the grid's edge is marked. Of CIFAR, minibatches are of test images of the first so
many labels.
"""

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from l2ljax import load_dataset, tasks
from l2ljax.evaluation.statistics import mean_ci95
from l2ljax.experiments import board, contestants
from l2ljax.tasks.suite import Entry

BASELINES = ("nag", "adam", "rmsprop", "sgd")
LEARNED = (
    "nominal-suite",
    "nominal-suite-steps",
    "averaged-suite",
    "opening-suite",
    "opening-suite-steps",
    "desk-suite",
    "enduring-suite",
    "timed-suite",
    "rnnprop-suite",
)


def _images(labels: int) -> Any:
    images = load_dataset("cifar10", split="test", labels=tuple(range(labels)))
    return tasks.convnet(images, batch_size=128)


def _mnist_relu() -> Any:
    return tasks.mlp(load_dataset("mnist", split="train"), activation="relu")


class Panel(NamedTuple):
    """A task, how many steps, the grids of those that are tuned, and how many are reported."""

    build: Any
    num_steps: int
    rates: dict[str, tuple[float, ...]]
    num_tasks: int = board.NUM_TASKS


def _near(best: float) -> tuple[float, ...]:
    """Five rates around one, three a decade.

    Example:
        >>> _near(0.1)
        (0.0215, 0.0464, 0.1, 0.215, 0.464)
    """
    middle = contestants.RATES.index(best)
    return contestants.RATES[middle - 2 : middle + 3]


CIFAR_RATES = {
    "nag": _near(0.1),
    "adam": _near(0.00464),
    "rmsprop": _near(0.00464),
    "sgd": _near(0.464),
}
PANELS = {
    "cifar10-1000": Panel(functools.partial(_images, 10), 1000, CIFAR_RATES),
    "cifar5-1000": Panel(functools.partial(_images, 5), 1000, CIFAR_RATES),
    "cifar2-1000": Panel(functools.partial(_images, 2), 1000, CIFAR_RATES),
    "mnist-relu-100": Panel(_mnist_relu, 100, {}, num_tasks=64),
    "neural-art-128": Panel(
        lambda: tasks.neural_art(content="test", style="brick", size=128),
        128,
        {"nag": _near(4.64), "adam": _near(0.0464)},
    ),
}

ASKED = flags.DEFINE_list("panels", list(PANELS), "Names in PANELS to run.")
OPTIMIZERS = flags.DEFINE_list("optimizers", [*LEARNED, *BASELINES], "In this order.")
OUT = flags.DEFINE_string("out", "benchmarks/results/panels", "Folder of cells and table.")


def run(name: str, optimizer: str, folder: Path) -> None:
    panel = PANELS[name]
    cell = board.Cell(name, optimizer, panel.num_steps, panel.num_tasks)
    if cell.path(folder).exists():
        return
    everyone = dict(contestants.HAND_MADE) | contestants.learned(list(LEARNED))
    contestant = everyone[optimizer]
    if optimizer in panel.rates:
        contestant = contestant._replace(rates=panel.rates[optimizer])
    entry = Entry("held_out", panel.build, small=False)
    say = functools.partial(print, flush=True)
    board.run_board([cell], {name: entry}, {optimizer: contestant}, folder, say=say)


def table(folder: Path) -> str:
    """Mean final loss of each cell with its interval, and how far tuned ones are above ours."""
    heads = ("panel", "optimizer", "rate", "last 5 % of steps", "95 % CI", "last parameters")
    heads = (*heads, "above nominal-suite by", "95 % CI")
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name, panel in PANELS.items():
        cells = {
            path.stem: json.loads(path.read_text())
            for path in sorted((folder / f"T{panel.num_steps}" / name).glob("*.json"))
        }
        for optimizer in [*LEARNED, *BASELINES]:
            if optimizer in cells:
                lines.append(_row(name, optimizer, cells[optimizer], cells.get("nominal-suite")))
    return "\n".join(lines) + "\n"


def _row(name: str, optimizer: str, cell: dict, ours: dict | None) -> str:
    final = np.array(cell["final_loss"], float)
    low, high = mean_ci95(final)
    rate = cell["learning_rate"]
    told = "none" if rate is None else f"{rate:g}{' (edge)' * cell['rate_at_edge']}"
    row = [name, optimizer, told, f"{final.mean():.4g}", f"{low:.4g} ... {high:.4g}"]
    row.append(f"{np.mean(cell['expected_loss']):.4g}")
    if ours is None or cell is ours:
        row += ["", ""]
    else:
        above = final - np.array(ours["final_loss"], float)
        low, high = mean_ci95(above)
        row += [f"{above.mean():.4g}", f"{low:.4g} ... {high:.4g}"]
    return f"| {' | '.join(row)} |"


def main(argv: list[str]) -> None:
    del argv
    folder = Path(OUT.value)
    for name in ASKED.value:
        for optimizer in OPTIMIZERS.value:
            run(name, optimizer, folder)
    print(table(folder))
    (folder / "table.md").write_text(table(folder))


if __name__ == "__main__":
    app.run(main)
