"""What a candidate of `search_rule.py` is worth on its trials, and beside what.

A candidate's score is its mean log final loss over that of tuned Adam, great gains and losses
compressed, so that no one task decides; all candidates run on the same optimizees and minibatches.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from search_numbers import rule
from search_trial import NOISES, Trial

from l2ljax.base import MetaParams, Task
from l2ljax.experiments import board, contestants
from l2ljax.tasks import transforms
from l2ljax.tasks.suite import ENTRIES
from l2ljax.unrolling import init_optimizee, unroll

GAIN, LOSS = -0.5, 1.0
"""Log ratios beyond which only a part counts: a quarter, and four tenths."""

BOUNDS = -1.2, 2.5
"""Of what counts."""


def adams_cell(trial: Trial) -> board.Cell:
    """Adam's on a trial's task, with its noise, in the units that the task has by itself."""
    name = trial.task if trial.noise is None else f"{trial.task}-{trial.noise}"
    return board.Cell(name, "adam", trial.num_steps)


def reached_by_adam(trial: Trial, folder: Path) -> np.ndarray:
    """Final losses of Adam, tuned on two other optimizees, on those of the search: `[num_tasks]`.

    Cells of the board in `folder`, run where they are missing.
    """
    cell = adams_cell(trial)
    entry = ENTRIES[trial.task]._replace(build=lambda: built(trial._replace(units=None)))
    board.run_board([cell], {cell.task: entry}, contestants.HAND_MADE, folder)
    ends = board.read_cell(cell.path(folder))["final_loss"]
    return np.array(ends, float)[: trial.num_tasks] * trial.asked


def built(trial: Trial) -> Task:
    """Its task, with its noise, in its units."""
    task = ENTRIES[trial.task].build()
    if trial.noise is not None:
        task = NOISES[trial.noise](task)
    return task if trial.units is None else transforms.random_scale(task, *trial.units)


def optimizees(trial: Trial, purpose: int = board.REPORTED) -> jax.Array:
    """Their keys, those of the board's cells; of another purpose others."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), purpose), board.NUM_TASKS)
    return keys[: trial.num_tasks]


def program(trial: Trial, told: bool = False, **options: Any) -> Callable[..., Any]:
    """Compiled: candidates `[n]`, keys `[k]` -> losses at the start, means of the last 5 %.

    Candidates are told the trial's number of steps, or not; `options` are those of `rule`.
    """
    task, optimizer = built(trial), rule(trial.num_steps if told else None, **options)

    def one(meta_params, key):
        tx = optimizer.transform(meta_params)
        init_key, run_key, _ = jax.random.split(key, 3)  # as the board's cells have it
        start = init_optimizee(task, tx, init_key)
        _, losses = unroll(task, tx, start, run_key, trial.num_steps)
        return losses[0], losses[-(trial.num_steps // 20) :].mean()

    return jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))


def log_ratios(
    trial: Trial,
    run: Callable[..., Any],
    candidates: Sequence[MetaParams],
    reached: np.ndarray,
    purpose: int = board.REPORTED,
) -> np.ndarray:
    """Of final losses to what is `reached` otherwise, above the task's floor: `[n, num_tasks]`.

    (The board's `ratios` end at 100, below where `counted` does.)
    """
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *candidates)
    keys = optimizees(trial, purpose)
    start, end = (np.asarray(x, np.float64) for x in run(stacked, keys))
    floor = ENTRIES[trial.task].floor * start
    end = np.where(np.isfinite(end), end, np.inf)
    return np.log(np.maximum(end, floor)) - np.log(np.maximum(reached, floor))


def counted(log_ratio: np.ndarray) -> np.ndarray:
    """What a log ratio counts."""
    low = np.where(log_ratio < GAIN, GAIN + 0.25 * (log_ratio - GAIN), log_ratio)
    high = np.where(low > LOSS, LOSS + 0.4 * (low - LOSS), low)
    return np.clip(high, *BOUNDS)
