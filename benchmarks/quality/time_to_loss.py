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
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    styles = ["-", "--", ":"]
    for (share, curve), style in zip(curves.items(), styles, strict=True):
        seconds, updates, losses = zip(*curve, strict=True)
        best = [min(losses[: i + 1]) for i in range(len(losses))]
        label = "all coordinates" if share == "1" else f"{float(share):.3g} of them"
        axes.step(
            seconds, best, style, where="post", linewidth=2,
            label=f"{label}: {updates[-1]} meta-updates",
        )  # fmt: skip
    axes.set(
        xlabel="seconds of meta-training (2 cores)",
        ylabel="best validation loss, mean over 100 steps",
        yscale="log",
    )
    axes.yaxis.set_minor_formatter("{x:.2g}")
    axes.yaxis.set_major_formatter("{x:.2g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(title="backward pass over", frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    app.run(main)
