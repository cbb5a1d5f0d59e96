"""What a mixture's meta-gradients are divided by: three tasks whose losses differ 200-fold.

    python benchmarks/quality/mixture_scales.py --out=benchmarks/results

A small RNNprop is meta-trained by noise-reuse evolution strategies on a quadratic (losses of some
hundred), a teacher network (some four) and logistic regression (half), one after another, under
each normalisation; Adam's rate is the best of three for each. Reported is log10 of the mean loss in
the last tenth of an episode over that of Adam with its rate tuned on other draws: for each task,
and the mean of the three, which has an interval over seeds.
"""

import functools
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from scipy import stats

import l2ljax
from l2ljax.estimators import mixture, nres
from l2ljax.training.step import init_state, meta_step

UPDATES = flags.DEFINE_integer("updates", 360, "Meta-updates, a third of them for each task.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each.", lower_bound=2)
PAIRS = flags.DEFINE_integer("pairs", 8, "Antithetic pairs of each of two optimizees.")
RATES = flags.DEFINE_list("rates", ["3e-3", "1e-2", "3e-2"], "Of the meta-optimizer.")
ONLY = flags.DEFINE_list("only", None, "Normalisations to try; default: all.")
OUT = flags.DEFINE_string("out", None, "Folder for mixture_scales.json.")

TASKS = ("quadratic", "teacher-8", "breast-cancer-linear")
STEPS, WINDOW, OPTIMIZEES = 100, 25, 32
ADAM = tuple(10 ** (i / 3) for i in range(-10, 3))
"""Three a decade, 4.6e-4 to 4.6."""

NORMALISATIONS = {
    "nothing": ("raw", None),
    "loss at the start": ("initial", None),
    "running meta-loss": ("raw", "loss"),
    "running meta-gradient": ("raw", "gradient"),
    "log loss": ("log", None),
    "log loss and running meta-gradient": ("log", "gradient"),
}
"""What is told -> (what becomes of a loss, `normalize` of the mixture)."""


def last_tenth(task, tx, key) -> np.ndarray:
    """Float64 `[OPTIMIZEES]`."""
    losses = l2ljax.evaluate(task, tx, key, num_tasks=OPTIMIZEES, num_steps=STEPS)
    return np.asarray(losses[:, -STEPS // 10 :].mean(axis=1), np.float64)


def baseline(task, name: str) -> tuple[float, float]:
    """`(mean loss of Adam at its best rate, mean loss at the start)`."""
    _, losses = l2ljax.tune(
        task, optax.adam, ADAM, jax.random.key(2), num_tasks=OPTIMIZEES, num_steps=STEPS
    )
    tails = np.nan_to_num(np.asarray(losses[:, :, -STEPS // 10 :].mean(axis=(1, 2))), nan=np.inf)
    best = int(tails.argmin())
    assert 0 < best < len(ADAM) - 1, f"Adam's best rate on {name} is at the grid's edge"
    final = last_tenth(task, optax.adam(ADAM[best]), jax.random.key(1)).mean()
    return float(final), float(losses[0, :, 0].mean())


def divided(start: float, losses: jax.Array) -> jax.Array:
    return losses / start


def trained(estimator, optimizer, rate: float, seed: int):
    """Meta-parameters after `UPDATES` meta-updates; a rate is no reason to compile anew."""
    first = optimizer.init(jax.random.key(100 + seed))
    state = init_state(estimator, META_OPTIMIZER, first, jax.random.key(seed))
    state.opt_state.hyperparams["learning_rate"] = jnp.float32(rate)
    for _ in range(UPDATES.value):
        state, _ = meta_step(estimator, META_OPTIMIZER, state)
    return state.meta_params


META_OPTIMIZER = optax.inject_hyperparams(optax.adam)(learning_rate=1e-3, b1=0.95)


def main(argv: list[str]) -> None:
    del argv
    train, optimizer = l2ljax.tasks.suite.tasks("train"), l2ljax.rnnprop((6,))
    known = {name: baseline(train[name], name) for name in TASKS}
    print({name: [f"{x:.3g}" for x in pair] for name, pair in known.items()}, flush=True)
    kept = Path(OUT.value) / "mixture_scales.json" if OUT.value else None
    found = json.loads(kept.read_text()) if kept and kept.exists() else {}
    for told, (kind, normalize) in NORMALISATIONS.items():
        if told not in (ONLY.value or NORMALISATIONS):
            continue
        begin = time.perf_counter()
        transforms = {
            name: {"raw": None, "log": "log", "initial": functools.partial(divided, known[name][1])}
            for name in TASKS
        }
        members = {
            name: nres(
                train[name], optimizer, num_tasks=2, episode_length=STEPS, unroll_length=WINDOW,
                num_perturbations=PAIRS.value, sigma=0.03, reduction="mean",
                loss_transform=transforms[name][kind],
            )
            for name in TASKS
        }  # fmt: skip
        estimator = mixture(members, normalize=normalize)
        by_rate = {}
        for rate in RATES.value:
            scores = []
            for seed in range(SEEDS.value):
                meta_params = trained(estimator, optimizer, float(rate), seed)
                pair = optimizer, meta_params
                tails = [last_tenth(train[n], pair, jax.random.key(1)).mean() for n in TASKS]
                scores.append(
                    [np.log10(t / known[n][0]) for t, n in zip(tails, TASKS, strict=True)]
                )
            by_rate[rate] = np.nan_to_num(np.asarray(scores), nan=9.0, posinf=9.0)
        best = min(by_rate, key=lambda rate: by_rate[rate].mean())
        scores = by_rate[best]
        means = scores.mean(axis=1)
        half = stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
        found[told] = {
            "rate": best,
            "tasks": dict(zip(TASKS, scores.mean(axis=0).round(3).tolist(), strict=True)),
            "mean": [
                round(float(x), 3) for x in (means.mean(), means.mean() - half, means.mean() + half)
            ],
            "all": {rate: s.round(3).tolist() for rate, s in by_rate.items()},
            "seconds": round(time.perf_counter() - begin, 1),
        }
        print(told, json.dumps(found[told]), flush=True)
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
