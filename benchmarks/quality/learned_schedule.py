"""AdamW with a learned schedule beside AdamW tuned: digits MLP, 500 steps.

    python benchmarks/quality/learned_schedule.py --minutes=9 --out=docs/results/learned-schedule

`l2ljax.hyperparameters(optax.adamw, ...)` with a piecewise schedule is meta-trained by
backpropagation through whole episodes, with second derivatives, on the mean loss of the last 5 % of
steps. The baselines' learning rates are tuned for the same number, on 64 other draws than the 128
that are reported.
"""

import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

import l2ljax
from l2ljax.evaluation.statistics import mean_ci95
from l2ljax.training.step import init_state, meta_step

MINUTES = flags.DEFINE_float(
    "minutes", 9.0, "Processor time of meta-training, all cores together, compilation included."
)
STEPS = flags.DEFINE_integer("steps", 500, "Inner steps.")
SEED = flags.DEFINE_integer("seed", 3, "Of meta-training.")
TASKS = flags.DEFINE_integer("tasks", 4, "Optimizees of a meta-update.")
OUT = flags.DEFINE_string("out", None, "Folder for learned_schedule.json.")

RATES = tuple(10 ** (i / 6) for i in range(-22, -5))
"""Six a decade, 2.2e-4 to 0.1."""


def main(argv: list[str]) -> None:
    del argv
    num_steps, tail = STEPS.value, STEPS.value // 20
    task = l2ljax.tasks.mlp(
        l2ljax.load_dataset("digits", "train"), (64, 32), activation="relu", batch_size=64
    )
    optimizer = l2ljax.hyperparameters(
        optax.adamw,
        {
            "learning_rate": l2ljax.log(1e-2),
            "b1": l2ljax.logit(0.9),
            "b2": l2ljax.logit(0.99),
            "weight_decay": l2ljax.log(1e-3),
        },
        "piecewise",
        num_steps=num_steps,
        num_knots=6,
    )
    meta_params, num_updates = meta_trained(task, optimizer, num_steps, tail)

    def final(tx, seed, num_tasks):
        losses = l2ljax.evaluate(
            task, tx, jax.random.key(seed), num_tasks=num_tasks, num_steps=num_steps
        )
        return np.asarray(losses[:, -tail:].mean(axis=1), np.float64)

    def cosine(rate):
        return optax.adamw(optax.cosine_decay_schedule(rate, num_steps))

    results = {"learned": final(optimizer.transform(meta_params), 1, 128)}
    rates = {}
    for name, make_tx in {"constant": optax.adamw, "cosine": cosine}.items():
        _, losses = l2ljax.tune(
            task, make_tx, RATES, jax.random.key(2), num_tasks=64, num_steps=num_steps
        )
        scores = np.nan_to_num(np.asarray(losses[:, :, -tail:].mean(axis=(1, 2))), nan=np.inf)
        rates[name] = RATES[int(scores.argmin())]
        assert RATES[0] < rates[name] < RATES[-1], f"{name}: the best rate is at the grid's edge"
        results[name] = final(make_tx(rates[name]), 1, 128)

    summary = {"num_meta_updates": num_updates, "rates": rates, "final_loss": {}, "difference": {}}
    for name, losses in results.items():
        low, high = mean_ci95(losses)
        summary["final_loss"][name] = [float(losses.mean()), float(low), float(high)]
    for name in rates:
        pairs = results["learned"] - results[name]
        low, high = mean_ci95(pairs)
        summary["difference"][name] = [float(pairs.mean()), float(low), float(high)]
    summary["meta_params"] = jax.tree.map(lambda x: np.asarray(x).tolist(), meta_params)
    print(json.dumps(summary, indent=1))
    if OUT.value:
        Path(OUT.value).mkdir(parents=True, exist_ok=True)
        (Path(OUT.value) / "learned_schedule.json").write_text(json.dumps(summary) + "\n")


def meta_trained(task, optimizer, num_steps: int, tail: int):
    """Meta-parameters after so many minutes, averaged over the last half, and the updates made.

    Minutes are the process's own, so that what else the machine does changes nothing; alone on it
    they are no fewer than the clock's.
    """
    begin = time.process_time()
    weights = np.zeros(num_steps)
    weights[-tail:] = 1 / tail
    estimator = l2ljax.truncated_bptt(
        task,
        optimizer,
        num_tasks=TASKS.value,
        episode_length=num_steps,
        unroll_length=num_steps,
        weights=weights,
        second_derivatives=True,
        backward="scan",
        remat="nested",
    )
    # Each meta-gradient is made as long as any other: those near divergence are huge.
    adam = optax.chain(optax.normalize_by_update_norm(), optax.adam(0.05, b1=0.8, b2=0.98))
    state = init_state(
        estimator, adam, optimizer.init(jax.random.key(0)), jax.random.key(SEED.value)
    )
    history, updates = [], 0
    while time.process_time() - begin < 60 * MINUTES.value:
        state, metrics = jax.block_until_ready(meta_step(estimator, adam, state))
        updates += 1
        history.append(jax.tree.map(jnp.copy, state.meta_params))
        if updates % 10 == 0:
            rate = np.exp(np.asarray(state.meta_params["learning_rate"])).round(4).tolist()
            print(updates, f"{float(metrics['meta_loss']):.5f}", rate, flush=True)
    last = history[len(history) // 2 :]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves).mean(axis=0), *last), updates


if __name__ == "__main__":
    app.run(main)
