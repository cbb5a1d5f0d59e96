"""Many long runs of learned optimizers: parameters that end non-finite, and where losses end.

    python benchmarks/robustness/stability.py --out=docs/results/robustness

Each optimizer runs a hundred times longer than the episodes that it was trained on, with its own
settings and with the recommended ones: `nonfinite="skip"`, and of an LSTM `max_update` the largest
update seen in episodes of the trained length on its own kind of task, rounded up to one digit. Both
have the same starts and minibatches. Cases that the folder holds already are not run again.
"""

import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from long_runs import advance, largest_update, train_fresh, with_faults
from outcomes import markdown, save, saved, summarise
from rich.progress import Progress

from l2ljax import Task, optimizers, tasks
from l2ljax.bundled import load_pretrained, pretrained_metadata
from l2ljax.tasks.data import load_dataset
from l2ljax.unrolling import init_optimizee

FRESH = "fresh"
OWN_TASK = {
    "lstm-quadratic": "quadratics",
    "lstm-quadratic-all": "quadratics",
    "lstm-quadratic-last": "quadratics",
    "lstm-mnist": "digits",
    "lstm-cifar10-single": "digits",  # the nearest to these images here
    "lstm-neural-art": "digits",
    "enduring-suite": "digits",
    FRESH: "quadratics",
}
FAULTY = "quadratics, 0.1 % of gradients NaN"

OPTIMIZERS = flags.DEFINE_list("optimizers", list(OWN_TASK), "Those to run.")
TASKS = flags.DEFINE_list("tasks", None, "Those that start with one of these; default: all.")
RUNS = flags.DEFINE_integer("runs", 100, "Of each.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 10_000, "Inner steps of each.", lower_bound=1)
CHUNK = flags.DEFINE_integer("chunk", 100, "Inner steps a compiled call.", lower_bound=1)
AT_ONCE = flags.DEFINE_integer("at_once", 25, "Runs side by side.", lower_bound=1)
OUT = flags.DEFINE_string("out", "benchmarks/results", "Folder for stability.json and .md.")


def make_tasks() -> dict[str, Task]:
    """Quadratics as in the paper, with faults, and a 64-20-10 network on scikit-learn's digits."""
    quadratic = tasks.quadratic(dim=10)
    return {
        "quadratics": quadratic,
        FAULTY: with_faults(quadratic, 1e-3),
        "digits": tasks.mlp(load_dataset("digits", "train"), hidden_sizes=(20,)),
    }


def recommended(specification: dict[str, Any], meta_params: Any, own: Task) -> dict[str, Any]:
    """Settings that bad gradients and large steps cannot hurt; `nominal` has bounds of its own."""
    if specification["name"] == "nominal":
        return {"nonfinite": "skip"}
    largest = largest_update(own, optimizers.build(specification), meta_params)
    unit = 10.0 ** math.floor(math.log10(largest))
    bound = float(f"{math.ceil(largest / unit) * unit:.1g}")
    return {"nonfinite": "skip", "max_update": bound}


def measure(task: Task, optimizer: Any, meta_params: Any, show=lambda done: None) -> dict[str, Any]:
    """What became of all runs of one optimizer on one task."""
    tx = optimizer.transform(meta_params)
    keys = jax.random.split(jax.random.key(2), RUNS.value)
    states = jax.jit(jax.vmap(lambda key: init_optimizee(task, tx, key)))(keys)
    run_key, losses, begin = jax.random.key(3), [], time.perf_counter()
    for number, first in enumerate(range(0, STEPS.value, CHUNK.value)):
        num_steps = min(CHUNK.value, STEPS.value - first)
        key, at_once = jax.random.fold_in(run_key, number), min(AT_ONCE.value, RUNS.value)
        states, found = advance(task, optimizer, meta_params, states, num_steps, at_once, key)
        losses.append(np.asarray(found[:, :-1], np.float64))
        show(first + num_steps)
    finite = jax.tree.map(lambda x: np.isfinite(x).reshape(RUNS.value, -1), states.params)
    finite = np.concatenate(jax.tree.leaves(finite), axis=1)
    seconds = round(time.perf_counter() - begin, 1)
    return {**summarise(np.concatenate(losses, axis=1), finite), "seconds": seconds}


def main(argv: list[str]) -> None:
    del argv
    if unknown := sorted(set(OPTIMIZERS.value) - set(OWN_TASK)):
        raise app.UsageError(f"Unknown optimizers {unknown}; there are {', '.join(OWN_TASK)}.")
    out, found = Path(OUT.value), make_tasks()
    counts = {"runs": RUNS.value, "steps": STEPS.value}
    with Progress() as bar:
        for name in OPTIMIZERS.value:
            if name == FRESH:
                specification, meta_params = train_fresh(found["quadratics"])
            else:
                specification = pretrained_metadata(name)["optimizer"]
                meta_params = load_pretrained(name)[1]
            safe = recommended(specification, meta_params, found[OWN_TASK[name]])
            for task_name, task in found.items():
                if TASKS.value and not task_name.startswith(tuple(TASKS.value)):
                    continue
                for settings, options in {"recommended": safe, "default": {}}.items():
                    case = {"optimizer": name, "task": task_name, "settings": settings}
                    if any(row.items() >= {**case, **counts}.items() for row in saved(out)):
                        continue
                    line = bar.add_task(f"{name}, {task_name}, {settings}", total=STEPS.value)
                    outcome = measure(
                        task,
                        optimizers.build({**specification, **options}),
                        meta_params,
                        lambda done, line=line: bar.update(line, completed=done),
                    )
                    # after each, so that a run that is cut short leaves what it has
                    save({**case, **options, **outcome}, out)
    print(markdown(saved(out)))


if __name__ == "__main__":
    app.run(main)
