"""The board: every optimizer on every task of the suite, a cell at a time.

A cell is one optimizer on one task for T steps: its learning rate, where it has one, is tuned on
two optimizees, and eight others are reported, the same for all optimizers. Each cell is one JSON
file, so that a board of hours goes on where it was cut.
"""

import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.base import Task
from l2ljax.checks import shorten
from l2ljax.evaluation.aggregate import EVERY, final_losses, speed_up
from l2ljax.experiments.contestants import Contestant
from l2ljax.storage.workdir import write_atomically
from l2ljax.tasks.suite import Entry
from l2ljax.unrolling import init_optimizee, scalar_loss, unroll

NUM_TASKS, NUM_TUNING_TASKS, FINAL_BATCHES = 8, 2, 32
POINTS = 60
"""Of a curve in a cell's file, spread evenly in the logarithm of the step."""

REPORTED, TUNING = 0, 1
"""Keys by purpose: `fold_in(key(seed), ...)`."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One optimizer on one task for so many steps."""

    task: str
    optimizer: str
    num_steps: int
    num_tasks: int = NUM_TASKS
    seed: int = 0

    def path(self, folder: Path) -> Path:
        """Where its results are kept."""
        return folder / f"T{self.num_steps}" / self.task / f"{self.optimizer}.json"


def run_cell(
    cell: Cell,
    task: Task,
    entry: Entry,
    contestant: Contestant,
    *,
    rates: Sequence[float] | None = None,
    envelope: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, Any]:
    """Tunes, runs and measures.

    Args:
        cell: which one.
        task: the task that it names.
        entry: that task's line in the suite.
        contestant: the optimizer that it names.
        rates: candidates, if others than the contestant's.
        envelope: the published curve of the task, `{"steps": ..., "loss": ...}`.

    Returns:
        what the cell's file holds: per optimizee `start`, `final_loss` (mean of the last 5 % of the
        steps), `expected_loss` (of the final parameters over more minibatches) and `log_area` (mean
        of log10 of the loss, from the floor on); `diverged` (not finite, or above the start);
        `curve`; `speed_up` where there is an envelope, from 10 steps on; `step_ms`, tuning's
        results, and settings.
    """
    key = jax.random.key(cell.seed)
    rate, tuning = None, {}
    candidates = tuple(contestant.rates if rates is None else rates)
    if candidates:
        tuning = _tune(cell, task, contestant, candidates, jax.random.fold_in(key, TUNING))
        rate = min(tuning, key=lambda r: (not np.isfinite(tuning[r]), tuning[r]))
    keys = jax.random.split(jax.random.fold_in(key, REPORTED), cell.num_tasks)
    losses, expected, seconds = _run(task, contestant, rate, cell.num_steps, keys)
    start = losses[:, 0]
    judged = expected if contestant.evaluated else final_losses(losses)
    with np.errstate(divide="ignore", invalid="ignore"):
        area = np.log10(np.maximum(losses, entry.floor * np.abs(start)[:, None])).mean(axis=1)
        bad = ~np.isfinite(judged) | (judged > start)
    found = {
        **dataclasses.asdict(cell),
        "group": contestant.group,
        "learning_rate": rate,
        "tuning": {f"{r:g}": _number(x) for r, x in tuning.items()},
        "rate_at_edge": bool(candidates)
        and len(candidates) > 1
        and rate in (candidates[0], candidates[-1]),
        "start": _numbers(start),
        "final_loss": _numbers(judged),
        "expected_loss": _numbers(expected),
        "log_area": _numbers(area),
        "diverged": int(bad.sum()),
        "curve": _thinned(losses),
        "step_ms": round(1e3 * seconds / (cell.num_steps * cell.num_tasks), 4),
    }
    if envelope is not None and cell.num_steps >= EVERY:
        found["speed_up"] = _numbers(speed_up(losses, envelope["steps"], envelope["loss"]))
    return found


def run_board(
    cells: Sequence[Cell],
    entries: Mapping[str, Entry],
    contestants: Mapping[str, Contestant],
    folder: Path,
    *,
    envelopes: Mapping[str, Any] | None = None,
    say: Any = print,
) -> None:
    """Runs the cells that `folder` lacks, in order, and keeps each as soon as it is done.

    A cell that was made without the envelope that is given now is made anew.

    Raises:
        ValueError: before any is run, for a cell that is there but damaged, or of other optimizees.
    """
    names = {cell: entries[cell.task].envelope for cell in cells}
    curves = {cell: (envelopes or {}).get(name) for cell, name in names.items() if name}
    todo = [cell for cell in cells if not _is_there(cell, folder, curves.get(cell) is not None)]
    for number, cell in enumerate(todo):
        entry, began = entries[cell.task], time.perf_counter()
        rates = _around_best(cell, folder, contestants[cell.optimizer])
        found = run_cell(
            cell,
            _task(cell.task, entry),
            entry,
            contestants[cell.optimizer],
            rates=rates,
            envelope=curves.get(cell),
        )
        path = cell.path(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(found) + "\n").encode())
        took = time.perf_counter() - began
        say(
            f"{number + 1}/{len(todo)} T={cell.num_steps} {cell.task} {cell.optimizer}: "
            f"{np.median([x for x in found['final_loss'] if x is not None] or [np.nan]):.4g} "
            f"in {took:.0f} s"
        )
        if number % 20 == 19:
            jax.clear_caches()  # hundreds of programs are more than a process may map


def read_cell(path: Path) -> dict[str, Any]:
    """What a cell's file holds.

    Raises:
        ValueError: where it is damaged, naming the file.
    """
    try:
        found = json.loads(path.read_text())
        Cell(**{field.name: found[field.name] for field in dataclasses.fields(Cell)})
        return found
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"The cell {path} is damaged ({shorten(repr(error), 80)}); remove it, and it will "
            "be run again."
        ) from error


def _is_there(cell: Cell, folder: Path, with_envelope: bool = False) -> bool:
    """Whether it has been run, with the seed and on as many optimizees as are asked for."""
    path = cell.path(folder)
    if not path.exists():
        return False
    found = read_cell(path)
    if (found["num_tasks"], found["seed"]) != (cell.num_tasks, cell.seed):
        raise ValueError(
            f"The cell {path} is of {found['num_tasks']} optimizees with seed {found['seed']}, and "
            f"{cell.num_tasks} with seed {cell.seed} are asked for; give these a folder of their "
            "own."
        )
    return not with_envelope or "speed_up" in found or cell.num_steps < EVERY


@functools.lru_cache(maxsize=2)
def _task(name: str, entry: Entry) -> Task:
    del name
    return entry.build()


def _around_best(cell: Cell, folder: Path, contestant: Contestant) -> tuple[float, ...] | None:
    """At ten times the steps: five rates around the best at a tenth, where that one is known."""
    shorter = dataclasses.replace(cell, num_steps=cell.num_steps // 10)
    if cell.num_steps < 10_000 or len(contestant.rates) < 14 or not _is_there(shorter, folder):
        return None
    found = read_cell(shorter.path(folder))["learning_rate"]
    best = int(np.argmin(np.abs(np.log(contestant.rates) - np.log(found))))
    first = min(max(best - 3, 0), len(contestant.rates) - 5)
    return contestant.rates[first : first + 5]


def _tune(
    cell: Cell, task: Task, contestant: Contestant, rates: Sequence[float], key: jax.Array
) -> dict[float, float]:
    """Rate -> mean final loss of the tuning optimizees; infinity where one is not finite."""
    keys = jax.random.split(key, NUM_TUNING_TASKS)
    found = {}
    for rate in rates:
        program, traced = _program(contestant, cell.num_steps, rate)
        losses, expected = map(np.asarray, program(task, traced, keys))
        judged = expected if contestant.evaluated else final_losses(losses)
        found[rate] = float(judged.mean()) if np.isfinite(judged).all() else np.inf
    return found


def _run(task, contestant, rate, num_steps, keys):
    """Losses `[n, T + 1]`, losses of the judged parameters `[n]`, and seconds without compiling."""
    program, traced = _program(contestant, num_steps, rate)
    compiled = program.lower(task, traced, keys).compile()
    began = time.perf_counter()
    losses, expected = jax.block_until_ready(compiled(task, traced, keys))
    seconds = time.perf_counter() - began
    return np.asarray(losses, np.float64), np.asarray(expected, np.float64), seconds


def _program(contestant: Contestant, num_steps: int, rate: Any) -> tuple[Any, Any]:
    """A compiled function and its rate: learning rates are traced, so one program serves all."""
    if isinstance(rate, float):
        return _jitted(contestant, num_steps, None), jnp.float32(rate)
    return _jitted(contestant, num_steps, rate), None


@functools.lru_cache(maxsize=4)
def _jitted(contestant: Contestant, num_steps: int, fixed: Any) -> Any:
    def one(task, rate, key):
        tx = contestant.make(fixed if rate is None else rate, num_steps)
        init_key, run_key, final_key = jax.random.split(key, 3)
        state, losses = unroll(task, tx, init_optimizee(task, tx, init_key), run_key, num_steps)
        params = state.params
        if contestant.evaluated is not None:
            params = contestant.evaluated(state.opt_state, params)

        def loss(key):
            return scalar_loss(task, params, task.batch(task.data, state.instance, key))

        return losses, jax.lax.map(loss, jax.random.split(final_key, FINAL_BATCHES)).mean()

    return jax.jit(jax.vmap(one, in_axes=(None, None, 0)))


def _thinned(losses: np.ndarray) -> dict[str, Any]:
    """Median and quartiles over optimizees of means between points spread in the logarithm.

    A loss that is not finite is above all others: null where it is what a quantile would be.
    """
    steps = losses.shape[1] - 1
    edges = np.unique(np.round(np.geomspace(1, steps + 1, max(2, min(POINTS, steps)))).astype(int))
    with np.errstate(invalid="ignore", over="ignore"):
        pieces = [losses[:, a:b].mean(axis=1) for a, b in itertools.pairwise(edges)]
        table = np.sort(np.where(np.isfinite(pieces), pieces, np.inf), axis=1)
        low, middle, high = (_quantile(table, share) for share in (0.25, 0.5, 0.75))
    at = ((edges[:-1] + edges[1:] - 1) / 2).tolist()
    return {"steps": at, "median": _numbers(middle), "low": _numbers(low), "high": _numbers(high)}


def _quantile(table: np.ndarray, share: float) -> np.ndarray:
    """Of sorted rows, interpolated; a number that is met exactly has no neighbour."""
    position = share * (table.shape[1] - 1)
    below = int(position)
    if position == below:
        return table[:, below]
    return table[:, below] + (position - below) * (table[:, below + 1] - table[:, below])


def _numbers(values: np.ndarray) -> list[float | None]:
    return [_number(x) for x in np.ravel(values)]


def _number(x: Any) -> float | None:
    return float(f"{x:.6g}") if np.isfinite(x) else None
