r"""Two dozen numbers of `nominal` from scratch by CMA-ES on training tasks, no gradient taken.

    python benchmarks/quality/search_rule.py --generations=53 --out=runs/averaged-suite

The rule has no hidden layer: sizes, drifts, mixtures and what is put off of a step are linear in
the statistics of a tensor. Of its numbers those that can matter (`search_numbers`) are searched
with `cma` (Hansen 2016, arXiv:1604.00772), which needs final losses alone (`search_scores`), on one
of the sets of `search_sets`, the first `--short` generations with runs of 200 steps.
Adam is tuned and run as on the board, before the search. `mean.safetensors` is the search's last
mean, `averaged.safetensors` that of its last six, as with few candidates each strays; `--settle=G`
makes the search's steps shorter from generation G on. Trials are shared out among `--processes`,
on two cores two, on a GPU four; a candidate takes 7 to 10 seconds of a CPU core. A search goes on
where it was cut, and begins at other weights with `--initial=NAME --spread=0.25`; `--told` searches
a rule that is told its number of steps, `--early=NAME` what those weights do in their first steps,
`--axes=NAME` what they do to tensors of more than two axes, with `--alone` to pictures alone,
`--whole=NAME` the rule's own numbers and those of the first steps, on from that, told or not, with
`--alone` if NAME is of a search for pictures alone, with `--outputs=size,drift` some of them.
"""

import contextlib
import functools
import multiprocessing
import os
import pickle
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import cma
import jax
import numpy as np
from absl import app, flags
from search_numbers import (
    ALONE_COLUMN,
    AXES,
    EARLY,
    NUMBERS,
    TOLD,
    indices,
    is_told,
    moved,
    numbers_at,
    placed,
    rule,
    weights_at,
    with_axes,
    with_early,
)
from search_scores import adams_cell, counted, log_ratios, program, reached_by_adam
from search_sets import SETS
from search_trial import Trial
from search_trials import shortened

from l2ljax import load_optimizer, save_optimizer
from l2ljax.base import MetaParams
from l2ljax.bundled import weights_path
from l2ljax.storage.workdir import write_atomically

GENERATIONS = flags.DEFINE_integer("generations", 53, "In all.")
SHORT = flags.DEFINE_integer("short", 0, "Generations with short runs, at the start.")
SETTLE = flags.DEFINE_integer("settle", None, "Generations before steps are SETTLED at most.")
CHOSEN = flags.DEFINE_enum("trials", "first", list(SETS), "Of `search_sets`.")
POPULATION = flags.DEFINE_integer("population", 96, "Candidates of a generation.")
PROCESSES = flags.DEFINE_integer("processes", 2, "That run candidates.")
OUT = flags.DEFINE_string("out", "runs/search", "Folder of the search and its mean.")
ADAM = flags.DEFINE_string("adam", "runs/search-adam", "Folder of tuned Adam's cells.")
SEED = flags.DEFINE_integer("seed", 7, "Of the search.")
INITIAL = flags.DEFINE_string("initial", None, "A bundled name or a file to start from.")
HORIZON = flags.DEFINE_bool("told", False, "Candidates are told the number of steps.")
BASE = flags.DEFINE_string("early", None, "A bundled name or a file: numbers of `EARLY` for it.")
THICK = flags.DEFINE_string("axes", None, "A bundled name or a file: numbers of `AXES` for it.")
ALONE = flags.DEFINE_bool(
    "alone", False, "With --axes: numbers for pictures alone; with --whole: its weights have them."
)
REST = flags.DEFINE_integer(
    "rest_after", None, "Steps beyond which sizes fall as 1 / t; default: as `search_numbers.rule`."
)
NOISE = flags.DEFINE_float("noise_limit", None, "As `nominal` has it; default: none.")
WHOLE = flags.DEFINE_string("whole", None, "A bundled name or a file: all numbers, on from it.")
CHANGED = flags.DEFINE_list("outputs", None, "With --whole: numbers of these outputs alone.")
DIAGONAL = flags.DEFINE_bool("diagonal", False, "Variances alone, which are learned sooner.")
SPREAD = flags.DEFINE_float("spread", 0.8, "Of the first generation, in units of the numbers.")

SHORT_STEPS = 200

SETTLED = 0.25
"""In units of the numbers: on few candidates a search's steps stay so long (0.7 after thirty
generations) that its mean goes around what is best."""

AVERAGED = 6
"""Last means of the search whose mean is kept, too."""


def shared_out(trials: dict[str, Trial], processes: int) -> list[dict[str, Trial]]:
    """The longest first, each to the process that has the least to do."""
    shares: list[dict[str, Trial]] = [{} for _ in range(processes)]
    for name, trial in sorted(trials.items(), key=lambda item: -item[1].seconds):
        least = min(shares, key=lambda share: sum(each.seconds for each in share.values()))
        least[name] = trial
    return [share for share in shares if share]


class Begun(NamedTuple):
    """Names or files of the weights that a search begins at, one of them or none."""

    early: str | None
    axes: str | None
    alone: str | None
    whole: str | None
    outputs: list[str] | None


def weights_of(begun: Begun) -> Callable[[np.ndarray], MetaParams]:
    """What makes meta-parameters of the numbers that are searched."""
    if begun.whole is not None and begun.outputs:
        start, outputs = load_optimizer(weights_path(begun.whole))[1], begun.outputs
        return lambda x: moved(start, placed(x, outputs, is_told(start)))
    with_alone = functools.partial(with_axes, column=ALONE_COLUMN)
    for name, change in zip(begun[:4], (with_early, with_axes, with_alone, moved), strict=True):
        if name is not None:
            return functools.partial(change, load_optimizer(weights_path(name))[1])
    return weights_at


def begun_at() -> Begun:
    """By the flags."""
    thick = (None, THICK.value) if ALONE.value else (THICK.value, None)
    return Begun(BASE.value, *thick, WHOLE.value, CHANGED.value)


def rule_options() -> dict[str, Any]:
    """Of the rule, by the flags."""
    return {"rest_after": REST.value, "alone": ALONE.value, "noise_limit": NOISE.value}


def num_searched() -> int:
    """How many numbers, by the flags.

    Raises:
        ValueError: for flags that begin at weights of their own.
    """
    given = [name for name in (BASE.value, THICK.value, WHOLE.value, INITIAL.value) if name]
    if len(given) > 1:
        raise ValueError(
            "--early, --axes, --whole and --initial each begin at weights of their own: give one."
        )
    at = next((name for name in begun_at()[:4] if name), None)
    if at and HORIZON.value != is_told(load_optimizer(weights_path(at))[1]):
        raise ValueError(
            f"--told is for weights that are told the number of steps, and {at} is "
            f"{'not' if HORIZON.value else 'told'}; see tell_rule.py."
        )
    if ALONE.value and not (THICK.value or WHOLE.value):
        raise ValueError("--alone is for --axes or --whole: give NAME too, or leave --alone out.")
    if CHANGED.value:
        if not WHOLE.value:
            raise ValueError("--outputs is for --whole=NAME: give it too, or leave --outputs out.")
        return len(indices(CHANGED.value))
    if BASE.value:
        return len(EARLY)
    if THICK.value:
        return len(AXES)
    return len(NUMBERS) + len(TOLD) * HORIZON.value + len(EARLY) * bool(WHOLE.value)


def serve(
    connection: Connection,
    trials: dict[str, Trial],
    reached: dict[str, np.ndarray],
    cores: set[int],
    told: bool,
    options: dict[str, Any],
    begun: Begun,
) -> None:
    """Answers lists of candidates with their log ratios on some trials, until it is told None."""
    if cores:
        os.sched_setaffinity(0, cores)
    jax.config.update("jax_default_matmul_precision", "highest")  # as on CPUs
    programs = {name: program(trial, told, **options) for name, trial in trials.items()}
    weights = weights_of(begun)
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):  # it was cut
        while (tried := connection.recv()) is not None:
            candidates = [weights(x) for x in tried]
            answer = {
                name: log_ratios(trials[name], run, candidates, reached[name])
                for name, run in programs.items()
            }
            connection.send(answer)


def cores_of(number: int) -> set[int]:
    """One, if the processes need all there are: else they wait for each other's threads."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    few = 0 < len(cores) <= PROCESSES.value
    return {cores[number % len(cores)]} if few else set()


def tune_adam(trials: Iterable[Trial], folder: Path) -> None:
    """Runs Adam's cells that are missing in `folder`, the longest first, on all processes."""
    longest = sorted(trials, key=lambda trial: -trial.seconds)
    missing = {adams_cell(trial): trial for trial in longest}
    asked = [(trial, folder) for cell, trial in missing.items() if not cell.path(folder).exists()]
    if asked:
        with multiprocessing.get_context("spawn").Pool(PROCESSES.value) as pool:
            pool.starmap(reached_by_adam, asked, chunksize=1)


def start(trials: dict[str, Trial], reached: dict[str, np.ndarray]) -> list[Connection]:
    """Processes, each with its share of the trials and what Adam reaches there."""
    context = multiprocessing.get_context("spawn")
    ends = []
    for share in shared_out(trials, PROCESSES.value):
        ours, theirs = context.Pipe()
        of_share = {name: reached[name] for name in share}
        asked = (cores_of(len(ends)), HORIZON.value, rule_options(), begun_at())
        context.Process(target=serve, args=(theirs, share, of_share, *asked), daemon=True).start()
        ends.append(ours)
    return ends


def generation(
    search: cma.CMAEvolutionStrategy, processes: list[Connection], trials: dict[str, Trial]
) -> np.ndarray:
    """One generation; returns the mean before it, whose ratios are shown, not told.

    (Where the mean is among the candidates the search's steps become shorter before their time.)
    """
    began, mean, asked = time.time(), search.mean.copy(), search.ask()
    for process in processes:
        process.send([*asked, mean])
    found = {name: logs for process in processes for name, logs in process.recv().items()}
    each = [counted(trials[name].weight * logs).mean(axis=1) for name, logs in found.items()]
    scores = np.mean(each, axis=0)
    search.tell(asked, scores[:-1].tolist())
    told = ", ".join(f"{name} {np.exp(logs[-1].mean()):.3f}" for name, logs in found.items())
    spent = time.time() - began
    print(f"{search.countiter} ({spent:.0f} s): {scores[-1]:.4f}; {told}", flush=True)
    return mean


def main(argv: list[str]) -> None:
    del argv
    # processes share a GPU, so that none may take most of its memory beforehand
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    folder, adam = Path(str(OUT.value)), Path(str(ADAM.value))
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "search.pickle"
    how = {"popsize": POPULATION.value, "seed": SEED.value, "verbose": -9}
    how |= {"CMA_diagonal": DIAGONAL.value}
    begun, weights = np.zeros(num_searched()), weights_of(begun_at())
    if INITIAL.value:
        known = numbers_at(load_optimizer(weights_path(INITIAL.value))[1])[: begun.size]
        begun[: known.size] = known
    search, means = cma.CMAEvolutionStrategy(begun, SPREAD.value, how), []
    if state.exists():
        search, means = pickle.loads(state.read_bytes())
        if begun.size != search.N:
            raise ValueError(
                f"The search in {folder} is of {search.N} numbers, and {begun.size} are asked for; "
                "leave --told, --early, --axes, --whole as they were there, or give another --out."
            )
    trials = SETS[CHOSEN.value]
    made = rule(1000 if HORIZON.value else None, **rule_options())
    short = min(SHORT.value, GENERATIONS.value), shortened(trials, SHORT_STEPS)
    parts = [part for part in (short, (GENERATIONS.value, trials)) if search.countiter < part[0]]
    tune_adam([trial for _, of_part in parts for trial in of_part.values()], adam)
    for last, of_part in parts:
        reached = {name: reached_by_adam(trial, adam) for name, trial in of_part.items()}
        processes = start(of_part, reached)
        while search.countiter < last:
            if search.countiter == SETTLE.value:
                search.sigma = min(search.sigma, SETTLED)
            means.append(generation(search, processes, of_part))
            averaged = weights(np.mean(means[-AVERAGED:], axis=0))
            save_optimizer(folder / "mean.safetensors", made, weights(means[-1]))
            save_optimizer(folder / "averaged.safetensors", made, averaged)
            write_atomically(state, pickle.dumps((search, means)))
        for process in processes:
            process.send(None)


if __name__ == "__main__":
    app.run(main)
