"""What a second evaluation costs, with other weights of the same architecture, beside the first.

    python benchmarks/speed/again.py

The first compiles and runs; what follows compiles nothing (counted). Each work is measured in a
process of its own, without a cache of compiled programs on disk. Beside the seconds of `evaluate`
stand those of its compiled program called directly, so that the difference is what Python, keys and
transfers cost, and the share of the machine's bound on the rollouts' LSTM that the program reaches.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from absl import app, flags

WORKS: dict[str, tuple[dict[str, Any], int]] = {
    "128 quadratics": ({"name": "quadratic"}, 128),
    "1024 quadratics": ({"name": "quadratic"}, 1024),
    "8 digits MLPs": ({"name": "mlp", "dataset": "digits"}, 8),
    "1 MNIST MLP": ({"name": "mlp", "dataset": "mnist"}, 1),
    "8 MNIST MLPs": ({"name": "mlp", "dataset": "mnist"}, 8),
    "64 MNIST MLPs": ({"name": "mlp", "dataset": "mnist"}, 64),
}
"""Optimizees -> (task, number of them)."""

ASKED = flags.DEFINE_list("works", None, "Names in WORKS; default: all.")
STEPS = flags.DEFINE_integer("steps", 100, "Inner steps.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 3, "Evaluations after the first.", lower_bound=1)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS finds its data sets.")
ONE = flags.DEFINE_string("one", None, "Measure this work here, and print a JSON line.")


def make_task(description: dict[str, Any], data_dir: str | None) -> Any:
    from l2ljax import tasks
    from l2ljax.tasks.data import load_dataset

    if description["name"] == "quadratic":
        return tasks.quadratic()
    return tasks.mlp(load_dataset(description["dataset"], split="train", data_dir=data_dir))


def measured(name: str, steps: int, rounds: int, data_dir: str | None) -> dict[str, Any]:
    """Seconds of the first evaluation, of the later ones and of their program; compilations."""
    import bound
    import jax
    import optax

    from l2ljax import optimizers
    from l2ljax.evaluation import _programs, _rollouts, evaluate
    from l2ljax.unrolling import init_optimizee

    compiled = []

    def listener(event: str, duration_secs: float, **kwargs: Any) -> None:
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    description, num_tasks = WORKS[name]
    task, optimizer = make_task(description, data_dir), optimizers.lstm()
    weights = [optimizer.init(jax.random.key(seed)) for seed in range(rounds + 1)]
    key = jax.block_until_ready(jax.random.key(7))

    def seconds(function) -> float:
        start = time.perf_counter()
        jax.block_until_ready(function())
        return time.perf_counter() - start

    def whole(meta_params) -> float:
        sizes = {"num_tasks": num_tasks, "num_steps": steps}
        return seconds(lambda: evaluate(task, (optimizer, meta_params), key, **sizes))

    before = len(compiled)
    first = whole(weights[0])
    told = {"first_s": first, "first_compilations": len(compiled) - before}
    program = list(_programs._KEPT.values())[-1]  # the one used last
    _, data = _rollouts.task_parts(task)
    before, later, alone = len(compiled), [], []
    for meta_params in weights[1:]:  # in turns, so that both meet the same other load
        later.append(whole(meta_params))
        alone.append(seconds(lambda p=meta_params: program(data, p, key)))
    told |= {"compilations": len(compiled) - before, "later_s": later, "program_s": alone}
    start = jax.eval_shape(lambda k: init_optimizee(task, optax.identity(), k).params, key)
    coordinates = sum(leaf.size for leaf in jax.tree.leaves(start)) * num_tasks
    rates = bound.measure_rates()
    least = (bound.flops(2) / rates[0] + bound.ACTIVATIONS / rates[1]) * coordinates * steps
    return told | {"work": name, "bound_s": least}


def table(found: list[dict[str, Any]]) -> str:
    """Of what `measured` returned, the medians.

    Example:
        >>> one = {"work": "w", "first_s": 3.0, "later_s": [0.5, 0.1, 0.2], "bound_s": 0.05}
        >>> print(table([one | {"program_s": [0.2], "compilations": 0}]).splitlines()[-1])
        | w | 3.00 | 0.200 (0.100 to 0.500) | 15.0 | 0.200 | 25% | 0 |
    """
    lines = [
        "| optimizees | first, s | later, s | ratio | program alone, s | of bound | compilations |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in found:
        later, alone = statistics.median(one["later_s"]), statistics.median(one["program_s"])
        spread = f"{min(one['later_s']):.3f} to {max(one['later_s']):.3f}"
        lines.append(
            f"| {one['work']} | {one['first_s']:.2f} | {later:.3f} ({spread}) | "
            f"{one['first_s'] / later:.1f} | {alone:.3f} | {one['bound_s'] / alone:.0%} | "
            f"{one['compilations']} |"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    del argv
    if ONE.value:
        one = measured(ONE.value, STEPS.value, ROUNDS.value, DATA_DIR.value)
        print(json.dumps(one), flush=True)
        return
    found = []
    for name in ASKED.value or WORKS:
        command = [sys.executable, __file__, f"--one={name}"]
        command += [f"--steps={STEPS.value}", f"--rounds={ROUNDS.value}"]
        command += [f"--data_dir={DATA_DIR.value}"] if DATA_DIR.value else []
        no_cache = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=no_cache)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{name}: {found[-1]}", file=sys.stderr, flush=True)
    print(table(found))


if __name__ == "__main__":
    app.run(main)
