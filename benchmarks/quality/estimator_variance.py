"""How the noise of a meta-gradient grows with the number of windows: es, pes and nres.

    python benchmarks/quality/estimator_variance.py

SGD with a learned rate and momentum follows a noisy quadratic whose losses do not die down. Windows
have 8 steps, episodes 1, 4, 16 or 64 windows; an estimate is one window's, from one antithetic pair
for one optimizee, at equal cost. Writes the variance of an estimate (about the mean of its window,
averaged over the episode's) relative to |mean meta-gradient|^2, its slope in the number of windows
(on logarithmic axes, 95 % intervals by Student's t over independent groups of episodes), which
share of the gradient the means have, and a figure.
"""

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from matplotlib.ticker import NullLocator

from l2ljax.base import GradientEstimator, LearnedOptimizer, Task
from l2ljax.estimators import es, nres, pes
from l2ljax.evaluation import mean_ci95
from l2ljax.evaluation.report import STYLES, log_labels, new_figure, save_figure, shared_legend
from l2ljax.experiments import hardware
from l2ljax.storage.workdir import write_atomically

OUT = flags.DEFINE_string("out", "docs/results/estimators", "Folder for the JSON and the figure.")
GROUPS = flags.DEFINE_integer("groups", 16, "Independent groups of episodes.", lower_bound=5)
EPISODES = flags.DEFINE_integer("episodes", 128, "Episodes in a group.", lower_bound=2)

STEPS, WINDOWS = 8, (1, 4, 16, 64)
SIGMA = 0.03
ESTIMATORS = {"es": es, "pes": pes, "nres": nres}
MARKERS = {"es": ("s", ":"), "pes": ("o", "-"), "nres": ("^", "--")}


def problem() -> tuple[Task, LearnedOptimizer]:
    """A quadratic with curvatures from 2 to 8, whose centre is drawn anew in each step."""
    curvatures = jnp.geomspace(2, 8, 10)
    task = Task(
        init=lambda instance, key: jnp.ones(10),
        batch=lambda data, instance, key: jax.random.normal(key, (10,)),
        loss=lambda x, centre: 0.5 * jnp.sum(curvatures * (x - centre) ** 2),
    )

    def transform(meta_params):
        rate, decay = jnp.exp(meta_params[0]), jax.nn.sigmoid(meta_params[1])
        return optax.with_extra_args_support(optax.chain(optax.trace(decay), optax.scale(-rate)))

    return task, LearnedOptimizer(lambda key: jnp.array([jnp.log(0.1), 0.0]), transform)


@functools.partial(jax.jit, static_argnums=(0, 3))
def episodes(number: int, estimator: GradientEstimator, meta_params: Any, windows: int, key: Any):
    """Float32 `[number, windows, meta_params]`: the meta-gradients of independent episodes."""

    def one(key):
        init_key, *keys = jax.random.split(key, windows + 1)

        def window(state, key):
            _, grads, state, _ = estimator.estimate(meta_params, state, key)
            return state, grads

        state = estimator.init(init_key, meta_params)
        return jax.lax.scan(window, state, jnp.stack(keys))[1]

    return jax.lax.map(one, jax.random.split(key, number), batch_size=256)


def measure(build: Callable[..., GradientEstimator], truth: list[np.ndarray]) -> dict[str, Any]:
    """Variances at each number of windows and their slope; fills in an empty `truth`."""
    (task, optimizer), groups = problem(), GROUPS.value
    meta_params = optimizer.init(jax.random.key(0))
    means, relative = [], []
    for place, number in enumerate(WINDOWS):
        estimator = build(
            task, optimizer, num_tasks=1, episode_length=number * STEPS, unroll_length=STEPS,
            num_perturbations=1, sigma=SIGMA, stagger=False,
        )  # fmt: skip
        draws = episodes(
            groups * EPISODES.value, estimator, meta_params, number, jax.random.key(number)
        )
        draws = np.asarray(draws, np.float64).reshape(groups, EPISODES.value, number, -1)
        if len(truth) == place:
            truth.append(draws.mean(axis=(0, 1, 2)))
        square = np.square(truth[place]).sum()
        relative.append(draws.var(axis=1, ddof=1).sum(axis=-1).mean(axis=-1) / square)
        means.append(draws.mean(axis=(1, 2)) @ truth[place] / square)
    return {
        "variance": told(np.transpose(relative)),
        "slope": told(np.polyfit(np.log(WINDOWS), np.log(relative), 1)[0]),
        "share": told(np.transpose(means)),
    }


def told(values: np.ndarray) -> dict[str, Any]:
    """Means over groups, axis 0, with intervals."""
    low, high = mean_ci95(values)
    return {
        "mean": values.mean(axis=0).tolist(),
        "ci95": [np.asarray(x).tolist() for x in (low, high)],
    }


def draw(found: dict[str, Any], path: Path) -> None:
    """Variance and share of the gradient against the number of windows."""
    figure, panels = new_figure(1, 2, size=(9.0, 4.0))
    for (name, result), style in zip(found["estimators"].items(), STYLES, strict=False):
        slope, (low, high) = result["slope"]["mean"], result["slope"]["ci95"]
        label = f"{name}: slope {slope:.2f} [{low:.2f}, {high:.2f}]"
        marker, line = MARKERS[name]
        for panel, what in zip(panels.flat, ("variance", "share"), strict=True):
            mean, ends = np.asarray(result[what]["mean"]), np.asarray(result[what]["ci95"])
            panel.errorbar(
                WINDOWS, mean, np.abs(ends - mean), label=label, marker=marker,
                linestyle=line, markersize=4, capsize=2, color=style["color"],
            )  # fmt: skip
    left, right = panels.flat
    ends = [
        end for one in found["estimators"].values() for end in np.ravel(one["variance"]["ci95"])
    ]
    log_labels(left, "y", min(ends), max(ends))
    left.set(ylabel="variance / |gradient|$^2$")
    shared_legend(figure, left)
    right.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    right.set(ylabel="share of the gradient in the mean")
    for panel in panels.flat:
        panel.grid(alpha=0.25, linewidth=0.5)
        panel.set_xscale("log")
        panel.set_xticks(WINDOWS, map(str, WINDOWS))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set(xlabel=f"windows of {STEPS} steps in an episode")
    save_figure(figure, path)


def main(argv: list[str]) -> None:
    del argv
    began, truth, out = time.perf_counter(), [], Path(OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    found = {"windows": WINDOWS, "steps": STEPS, "groups": GROUPS.value, "episodes": EPISODES.value}
    found |= {"sigma": SIGMA, "hardware": hardware(), "estimators": {}}
    for name in ("nres", "pes", "es"):  # the mean of nres, which is unbiased, is the gradient
        found["estimators"][name] = result = measure(ESTIMATORS[name], truth)
        print(name, json.dumps(result), flush=True)
        found["seconds"] = round(time.perf_counter() - began, 1)
        write_atomically(out / "variance.json", json.dumps(found, indent=1) + "\n")
        draw(found, out / "variance.png")


if __name__ == "__main__":
    app.run(main)
