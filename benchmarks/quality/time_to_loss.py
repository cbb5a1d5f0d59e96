"""Meta-training on MNIST with all coordinates and with samples of them: validation loss over time.

    python benchmarks/quality/time_to_loss.py --data_dir=../shared/tfds --out=benchmarks/results

The variants take turns of a few seconds each, so that whatever else the machine does falls on all
alike; validation is not counted as training time. Episodes are one window of 100 steps.
"""

import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from absl import app, flags

from l2ljax import estimators, optimizers, tasks
from l2ljax.evaluation.report import STYLES, log_labels, new_figure, save_figure, shared_legend
from l2ljax.tasks.data import load_dataset
from l2ljax.training import init_state, meta_step
from l2ljax.training.validation import Validation

DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS finds MNIST.")
SECONDS = flags.DEFINE_float("seconds", 120.0, "Training time of each variant.")
TURN = flags.DEFINE_float("turn", 10.0, "Training time between validations.")
OUT = flags.DEFINE_string("out", "benchmarks/results", "Folder for the JSON and the figure.")

SHARES = (1.0, 0.25, 0.125)


def main(argv: list[str]) -> None:
    del argv
    task = tasks.mlp(load_dataset("mnist", split="train", data_dir=DATA_DIR.value))
    optimizer = optimizers.lstm()
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
    start = optimizer.init(jax.random.key(0))
    validation = Validation(
        task=task, optimizer=optimizer, key=jax.random.key(7), num_tasks=16, num_steps=100
    )
    score = jax.jit(type(validation).score)
    runs = {}
    for share in SHARES:
        estimator = estimators.truncated_bptt(
            task, optimizer, num_tasks=1, episode_length=100, unroll_length=100,
            coordinate_share=share,
        )  # fmt: skip
        state = init_state(estimator, adam, start, jax.random.key(1))
        program = meta_step.lower(estimator, adam, state).compile()
        runs[share] = {"step": program, "estimator": estimator, "state": state, "trained": 0.0}
        runs[share]["curve"] = [(0.0, 0, float(score(validation, start)))]
    while any(run["trained"] < SECONDS.value for run in runs.values()):
        for share, run in runs.items():
            if run["trained"] >= SECONDS.value:
                continue
            begin = time.perf_counter()
            while time.perf_counter() - begin < TURN.value:
                run["state"], _ = jax.block_until_ready(run["step"](run["estimator"], run["state"]))
            run["trained"] += time.perf_counter() - begin
            loss = float(score(validation, jax.tree.map(jnp.copy, run["state"].meta_params)))
            run["curve"].append((run["trained"], int(run["state"].update), loss))
            print(f"share {share}: {run['trained']:.0f} s, validation loss {loss:.3f}", flush=True)
    out = Path(OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    curves = {f"{share:g}": run["curve"] for share, run in runs.items()}
    (out / "time_to_loss.json").write_text(json.dumps(curves) + "\n")
    draw(curves, out / "time_to_loss.png")


def draw(curves: dict[str, list], path: Path) -> None:
    """Best validation loss so far, over training time; one line a share."""
    figure, panels = new_figure(size=(6.4, 4.6))
    axes, drawn = panels[0][0], []
    for (share, curve), style in zip(curves.items(), STYLES, strict=False):
        seconds, updates, losses = zip(*curve, strict=True)
        best = [min(losses[: i + 1]) for i in range(len(losses))]
        part = "all coordinates" if share == "1" else f"{float(share):.3g} of them"
        label = f"{part}: {updates[-1]} meta-updates"
        axes.step(seconds, best, where="post", label=label, **style)
        drawn += best
    log_labels(axes, "y", min(drawn), max(drawn))
    axes.set_xlim(left=0.0)
    axes.set_xlabel("seconds of meta-training (2 cores)")
    axes.set_ylabel("best validation loss, mean over 100 steps")
    axes.grid(alpha=0.25, linewidth=0.5)
    shared_legend(figure, axes, columns=1, title="backward pass over")
    save_figure(figure, path)


if __name__ == "__main__":
    app.run(main)
