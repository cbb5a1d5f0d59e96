"""Ten numbers of `nominal` by CMA-ES on training tasks, where meta-gradients are too dear.

    python benchmarks/quality/search_outputs.py --told --minutes=15 --out=runs/outputs

Weights of the bundled optimizer get orthogonal directions (`l2ljax.optimizers.nominal`), which they
were not trained with. What is searched, with `cma` (Hansen 2016, arXiv:1604.00772), is what those
need most: the biases of the network's outputs (size, drift, logits of momenta and directions) and a
factor on the weights of its first two. A candidate's score is its mean log final loss over that of
tuned Adam, each optimizee's within bounds, so that neither one task's great gain nor one lost run
decides; all candidates run on the same optimizees and minibatches. Tuned Adam's cells of the board
for the training tasks are read from --cells.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cma
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from l2ljax import load_pretrained, save_optimizer
from l2ljax.base import MetaParams, Task
from l2ljax.evaluation.aggregate import ratios
from l2ljax.experiments import board
from l2ljax.optimizers import nominal
from l2ljax.tasks.suite import ENTRIES
from l2ljax.unrolling import init_optimizee, unroll

TOLD = flags.DEFINE_bool("told", True, "Tell it the number of steps.")
MINUTES = flags.DEFINE_float("minutes", 15.0, "After which no generation begins.")
OUT = flags.DEFINE_string("out", "runs/outputs", "Folder of the best and of the mean.")
CELLS = flags.DEFINE_string("cells", "runs/board", "Of the board, with T1000/TASK/.")
SEED = flags.DEFINE_integer("seed", 0, "Of the search.")
TASKS = flags.DEFINE_list(
    "tasks",
    [
        "mnist14-sigmoid-20",
        "mnist8-relu-32",
        "digits-autoencoder",
        "cifar8-grey-relu-32",
        "breast-cancer-linear",
        "teacher-8",
        "digits-relu-32",
        "digits-layernorm-128",
        "digits-tanh-64x32",
    ],
    "Training tasks of the suite.",
)
STEPS, OPTIMIZEES, CANDIDATES = 1000, 3, 10
DIRECTIONS = ("orthogonal", "orthogonal_adam")
BOUNDS = -0.4, 1.5
"""Of one optimizee's log ratio."""

UNITS = np.array([0.06, 0.3, 0.7, 0.7, 0.7, 0.7, 0.5, 0.5, 0.15, 0.3])
"""In which the search takes its steps: size, drift, four momenta, two directions, two factors."""


def widened(meta_params: MetaParams) -> MetaParams:
    """With outputs for the directions, each two and a half times as strong as Adam's."""
    first, last = meta_params["layers"]
    more = len(DIRECTIONS)
    kernel = jnp.pad(last["kernel"], ((0, 0), (0, more)))
    bias = jnp.concatenate([last["bias"], jnp.full(more, jnp.log(2.5))])
    return {"layers": [first, {"kernel": kernel, "bias": bias}]}


def moved(meta_params: MetaParams, x: np.ndarray) -> MetaParams:
    """The candidate at `x`, `[10]`, in units."""
    first, last = meta_params["layers"]
    y = jnp.asarray(x * UNITS, jnp.float32)
    kernel = last["kernel"].at[:, :2].multiply(jnp.exp(y[-2:]))
    return {"layers": [first, {"kernel": kernel, "bias": last["bias"] + y[:-2]}]}


def ends(task: Task, told: bool) -> Callable[[MetaParams], Any]:
    """Compiled: candidates `[n]` -> losses at the start and means of the last 5 %, `[n, 3]`."""
    optimizer = nominal((16,), num_steps=STEPS, directions=DIRECTIONS)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), board.REPORTED), board.NUM_TASKS)

    def one(meta_params, key):
        tx = optimizer.transform(meta_params)
        if not told:
            whole = optax.with_extra_args_support(tx)

            def update(updates, state, params=None):
                return whole.update(updates, state, params, num_steps=jnp.inf)

            tx = optax.GradientTransformation(whole.init, update)
        init_key, run_key, _ = jax.random.split(key, 3)  # as the board's cells have it
        _, losses = unroll(task, tx, init_optimizee(task, tx, init_key), run_key, STEPS)
        return losses[0], losses[-(STEPS // 20) :].mean()

    runs = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
    return lambda candidates: runs(candidates, keys[:OPTIMIZEES])


def scores(candidates: list[MetaParams], programs: dict, adam: dict) -> np.ndarray:
    """Mean bounded log ratios, `[n]`."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *candidates)
    found = []
    for name, program in programs.items():
        start, end = (np.asarray(x, np.float64) for x in program(stacked))
        ratio = np.stack(
            [ratios(e, adam[name], s, ENTRIES[name].floor) for s, e in zip(start, end, strict=True)]
        )
        found.append(np.clip(np.log(ratio), *BOUNDS).mean(axis=1))
    return np.mean(found, axis=0)


def main(argv: list[str]) -> None:
    del argv
    folder, began = Path(str(OUT.value)), time.time()
    folder.mkdir(parents=True, exist_ok=True)
    _, bundled = load_pretrained("nominal-suite-steps")
    start = widened(bundled)
    programs = {name: ends(ENTRIES[name].build(), TOLD.value) for name in TASKS.value}
    paths = {name: Path(CELLS.value) / f"T{STEPS}" / name / "adam.json" for name in programs}
    adam = {
        name: np.array(json.loads(path.read_text())["final_loss"], float)[:OPTIMIZEES]
        for name, path in paths.items()
    }
    options = {"popsize": CANDIDATES, "seed": SEED.value + 1, "verbose": -9}
    search = cma.CMAEvolutionStrategy(np.zeros(len(UNITS)), 0.6, options)
    while time.time() - began < 60 * MINUTES.value:
        asked = search.ask()
        found = scores([moved(start, x) for x in asked], programs, adam)
        search.tell(asked, found.tolist())
        print(f"{search.countiter}: best {found.min():.4f}, mean {found.mean():.4f}", flush=True)
        for name, x in {"best": search.result.xbest, "mean": search.mean}.items():
            optimizer = nominal((16,), num_steps=STEPS, directions=DIRECTIONS)
            save_optimizer(folder / f"{name}.safetensors", optimizer, moved(start, x))


if __name__ == "__main__":
    app.run(main)
