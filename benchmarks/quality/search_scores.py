"""What a candidate of `search_rule.py` is worth: on which tasks, beside what, and a generation.

A candidate's score is its mean log final loss over that of tuned Adam, each optimizee's within
bounds, so that neither one task's great gain nor one lost run decides; all candidates run on the
same optimizees and minibatches.
"""

import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cma
import jax
import jax.numpy as jnp
import numpy as np
from search_numbers import numbers, optimizer_for, told_from, weights_at

from l2ljax.base import MetaParams, Task
from l2ljax.evaluation.aggregate import ratios
from l2ljax.experiments import board, contestants
from l2ljax.tasks import transforms
from l2ljax.tasks.suite import ENTRIES
from l2ljax.unrolling import init_optimizee, unroll

TASKS = {
    "mnist14-sigmoid-20": (1000, 3),
    "mnist8-relu-32": (3000, 2),
    "digits-autoencoder": (1000, 3),
    "cifar8-grey-relu-32": (3000, 2),
    "breast-cancer-linear": (1000, 3),
    "teacher-8": (1000, 3),
    "digits-relu-32": (1000, 2),
    "digits-layernorm-128": (1000, 2),
    "digits-tanh-64x32": (1000, 2),
    "digits-convnet": (1000, 2),
    "valley-20": (1000, 2),
    "valley-noisy": (1000, 3),
    "factorisation-30": (1000, 3),
    "bytes-transformer-16": (1000, 1),
    "small-units": (1000, 4),
}
"""Training tasks of the suite, steps and optimizees; "small-units" is `digits-relu-32` with all
parameters in units of 0.01 to 0.1."""

LONGER = {"digits-relu-32": (10_000, 1), "teacher-8": (4000, 2)}
"""In their place where the number of steps is told: what is made for 1,000 alone fails beyond."""

UNITS_OF = "digits-relu-32"
ASKED = {"small-units": 100.0, ("digits-relu-32", 10_000): 100.0}
"""Times what Adam reaches, where that is so little that no candidate would be told from another:
in Adam's own units, and after so many steps 1e-7 of the loss at the start."""

CANDIDATES = 12
SPREAD = 0.8
"""Of the first generation, in units of the numbers."""

SPREAD_FROM = 0.3
"""The same where it goes on from an untold one."""

BOUNDS = -0.7, 1.5
"""Of one optimizee's log ratio."""


def length_and_number(name: str, told: bool) -> tuple[int, int]:
    """Steps and optimizees of one of TASKS."""
    return (LONGER if told else {}).get(name, TASKS[name])


def build(name: str) -> Task:
    """One of TASKS."""
    if name == "small-units":
        return transforms.random_scale(ENTRIES[UNITS_OF].build(), 0.01, 0.1)
    return ENTRIES[name].build()


def reached_by_adam(name: str, told: bool, folder: Path) -> np.ndarray:
    """Final losses of Adam, tuned on two other optimizees, on those of the search."""
    steps, count = length_and_number(name, told)
    known = UNITS_OF if name == "small-units" else name
    cell = board.Cell(known, "adam", steps)
    board.run_board([cell], ENTRIES, contestants.HAND_MADE, folder)
    ends = np.array(json.loads(cell.path(folder).read_text())["final_loss"], float)[:count]
    return ends * ASKED.get(name, ASKED.get((name, steps), 1.0))


def optimizees(name: str, told: bool, purpose: int = board.REPORTED) -> jax.Array:
    """Their keys, those of the board's cells; of another purpose others."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), purpose), board.NUM_TASKS)
    return keys[: length_and_number(name, told)[1]]


def program(name: str, told: bool) -> Callable[..., Any]:
    """Compiled: candidates `[n]`, keys `[k]` -> losses at the start, means of the last 5 %."""
    steps, _ = length_and_number(name, told)
    task, optimizer = build(name), optimizer_for(told, steps)

    def one(meta_params, key):
        tx = optimizer.transform(meta_params)
        init_key, run_key, _ = jax.random.split(key, 3)  # as the board's cells have it
        _, losses = unroll(task, tx, init_optimizee(task, tx, init_key), run_key, steps)
        return losses[0], losses[-(steps // 20) :].mean()

    return jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))


def scores(
    candidates: Sequence[MetaParams],
    told: bool,
    programs: Mapping[str, Any],
    reached: Mapping[str, np.ndarray],
    purpose: int = board.REPORTED,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Mean bounded log ratios to what is `reached` otherwise, `[n]`, and those of each task."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *candidates)
    found = {}
    for name, run in programs.items():
        pair = run(stacked, optimizees(name, told, purpose))
        start, end = (np.asarray(x, np.float64) for x in pair)
        floor = ENTRIES[UNITS_OF if name == "small-units" else name].floor
        ratio = [ratios(e, reached[name], s, floor) for s, e in zip(start, end, strict=True)]
        found[name] = np.clip(np.log(np.stack(ratio)), *BOUNDS).mean(axis=1)
    return np.mean(list(found.values()), axis=0), found


def new_search(told: bool, seed: int, initial: str | None = None) -> cma.CMAEvolutionStrategy:
    """Around the start, or around what an untold one has found."""
    options = {"popsize": CANDIDATES, "seed": seed, "verbose": -9}
    if initial is None:
        return cma.CMAEvolutionStrategy(np.zeros(len(numbers(told))), SPREAD, options)
    _, found = pickle.loads(Path(initial).read_bytes())
    return cma.CMAEvolutionStrategy(told_from(found.mean), SPREAD_FROM, options)


def generation(
    search: cma.CMAEvolutionStrategy,
    told: bool,
    programs: Mapping[str, Any],
    reached: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, dict[str, float]]:
    """One generation; the mean before it, and its ratios, which the search is not told.

    (Where the mean is among the candidates the search's steps become shorter before their time.)
    """
    mean, asked = search.mean.copy(), search.ask()
    tried = [weights_at(x, told) for x in [*asked, mean]]
    found, by_task = scores(tried, told, programs, reached)
    search.tell(asked, found[:-1].tolist())
    of_mean = {name: float(np.exp(logs[-1])) for name, logs in by_task.items()}
    told_of = ", ".join(f"{name} {ratio:.3f}" for name, ratio in of_mean.items())
    print(f"{search.countiter}: {found[-1]:.4f}; {told_of}", flush=True)
    return mean, of_mean
