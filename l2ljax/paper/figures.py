"""Figures of the paper besides loss curves: preprocessing, updates, architectures, pictures."""

import json
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.evaluation.report import LABELS, STYLES, new_figure, save_figure, shared_legend
from l2ljax.optimizers.preprocess import log_sign


def save_preprocessing(path: str | Path, p_values: tuple[float, ...] = (1.0, 10.0)) -> None:
    """The two features of `log_sign(p)` against the gradient (paper, Appendix A), as a PNG."""
    figure, panels = new_figure(1, len(p_values), size=(4.2 * len(p_values), 3.6))
    for axes, p in zip(panels[0], p_values, strict=True):
        magnitude = np.logspace(-(p + 3) / np.log(10), 1, 400)
        gradient = np.concatenate([-magnitude[::-1], magnitude])
        features = np.asarray(jax.vmap(log_sign(p))(jnp.asarray(gradient, jnp.float32)))
        axes.plot(gradient, features[:, 0], label="log |g| / p, or -1", **STYLES[0])
        axes.plot(gradient, features[:, 1], label="sgn g, or $e^p g$", **STYLES[1])
        axes.set_xscale("symlog", linthresh=float(np.exp(-p)))
        ticks = 10.0 ** np.arange(1, -p / np.log(10), -2)
        axes.set_xticks([*-ticks, 0, *ticks], minor=False)
        axes.minorticks_off()
        axes.set_xlabel(f"gradient g (linear inside ±$e^{{-{p:g}}}$)")
        axes.set_title(f"p = {p:g}")
        axes.grid(alpha=0.25, linewidth=0.5)
    panels[0][0].set_ylabel("feature")
    shared_legend(figure, panels[0][0])
    save_figure(figure, path)


def save_updates(path: str | Path, updates: Mapping[str, np.ndarray], title: str) -> None:
    """Updates that optimizers propose for a few coordinates along one trajectory, as a PNG.

    Args:
        path: of the PNG.
        updates: name -> `[num_steps, num_coordinates]`; the first made the trajectory.
        title: above all panels.
    """
    num_coordinates = next(iter(updates.values())).shape[1]
    rows = -(-num_coordinates // 2)
    figure, panels = new_figure(rows, 2, size=(8.4, 2.3 * rows + 0.6), sharex=True)
    for index, axes in enumerate(panels.flat):
        if index >= num_coordinates:
            axes.set_visible(False)
            continue
        for (name, values), style in zip(updates.items(), cycle(STYLES), strict=False):
            thin = {**style, "linewidth": 0.7 * style["linewidth"]}
            axes.plot(values[:, index], label=LABELS.get(name, name), **thin)
        axes.axhline(0, color="0.6", linewidth=0.6)
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.set_title(f"coordinate {index + 1}", fontsize=9, loc="left")
    for axes in panels[-1]:
        axes.set_xlabel("inner step")
    for axes in panels[:, 0]:
        axes.set_ylabel("update")
    shared_legend(figure, panels[0, 0])
    figure.suptitle(title)
    save_figure(figure, path)


def save_responses(
    path: str | Path, found: Mapping[str, Any], answers: Mapping[str, np.ndarray]
) -> None:
    """Updates that optimizers would propose for each value of the next gradient, as a PNG.

    Args:
        path: of the PNG.
        found: with `values` of the gradient, `at_steps`, and the trajectory's `gradients`.
        answers: name -> `[len(at_steps), num_values, num_coordinates]`; the first two are shown.
    """
    steps, values = found["at_steps"], np.asarray(found["values"])
    figure, panels = new_figure(
        2, len(steps), size=(2.5 * len(steps) + 0.6, 5.2), sharex=True, sharey=True
    )
    for coordinate, row in enumerate(panels):
        for column, (axes, step) in enumerate(zip(row, steps, strict=True)):
            for (name, rows), style in zip(answers.items(), cycle(STYLES), strict=False):
                label = LABELS.get(name, name)
                axes.plot(values, rows[column, :, coordinate], label=label, **style)
            axes.axvline(found["gradients"][step][coordinate], color="0.5", linewidth=1.0)
            axes.axhline(0, color="0.6", linewidth=0.6)
            axes.set_xlim(values[0], values[-1])
            axes.grid(alpha=0.25, linewidth=0.5)
            axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 2))
            axes.set_title(f"coordinate {coordinate + 1}, step {step}", fontsize=9, loc="left")
        row[0].set_ylabel("update")
    for axes in panels[-1]:
        axes.set_xlabel("next gradient")
    shared_legend(figure, panels[0][0])
    figure.suptitle("Updates by the next gradient; grey: the one that came")
    save_figure(figure, path)


def save_architectures(path: str | Path, trained_on: tuple[int, ...]) -> None:
    """Final losses over network sizes, one panel a depth, drawn beside the JSON that has them.

    Args:
        path: the JSON file of `compare_architectures`; the PNG gets its name.
        trained_on: hidden sizes of meta-training, which are marked.
    """
    path = Path(path)
    found = json.loads(path.read_text())
    depths = sorted({len(network["hidden_sizes"]) for network in found["networks"]})
    figure, panels = new_figure(1, len(depths), size=(3.4 * len(depths) + 0.4, 3.8), sharey=True)
    names = list(found["networks"][0]["optimizers"])
    for axes, depth in zip(panels[0], depths, strict=True):
        networks = [n for n in found["networks"] if len(n["hidden_sizes"]) == depth]
        units = [network["hidden_sizes"][0] for network in networks]
        for shift, (name, marker, style) in enumerate(
            zip(names, cycle("os^Dv"), cycle(STYLES), strict=False)
        ):
            finals = [network["optimizers"][name]["final_loss"] for network in networks]
            means = np.array([final["mean"] for final in finals], np.float64)
            ends = np.array([final["ci95"] for final in finals], np.float64).T
            axes.errorbar(
                np.arange(len(units)) + 0.16 * shift - 0.08,
                means,
                yerr=np.abs(ends - means),
                fmt=marker,
                color=style["color"],
                capsize=3,
                label=f"{LABELS.get(name, name)}{', tuned for each' if shift else ' (learned)'}",
            )
            if list(trained_on) in [network["hidden_sizes"] for network in networks] and not shift:
                at = units.index(trained_on[0])
                ring = {"s": 190, "facecolors": "none", "edgecolors": "k"}
                axes.scatter(at - 0.08, means[at], label="trained on this", **ring)
                axes.axvline(at - 0.08, color="0.5", linewidth=0.9, linestyle="--", zorder=0)
        axes.set_xticks(range(len(units)), [str(u) for u in units])
        axes.set_xlabel("units a layer")
        axes.set_title(f"{depth} hidden layer{'s' * (depth > 1)}")
        for network in found["networks"]:
            if network["hidden_sizes"] == list(trained_on):
                level = network["optimizers"][names[0]]["final_loss"]["mean"]
                axes.axhline(level, color="0.5", linewidth=0.9, linestyle="--", zorder=0)
        axes.grid(alpha=0.25, linewidth=0.5)
    panels[0][0].set_ylabel(f"loss after {found['num_steps']} steps")
    shared_legend(figure, panels[0][0])
    figure.suptitle(f"Mean of {found['num_tasks']} optimizees, 95 % confidence intervals")
    save_figure(figure, path.with_suffix(".png"))


def save_pictures(path: str | Path, title: str) -> None:
    """Painted pictures in a grid, drawn beside the `.npz` file that has them.

    Args:
        path: a file with `content` uint8 `[n, height, width, 3]`, `style` `[height, width, 3]`,
            `steps` `[k]`, and by optimizer `[n, k, height, width, 3]`; the PNG gets its name.
        title: above all.
    """
    path = Path(path)
    with np.load(path, allow_pickle=False) as file:
        found = dict(file)
    content, style, steps = (found.pop(name) for name in ("content", "style", "steps"))
    each, rows = len(steps), len(content) * len(steps)
    size = (0.8 * (2 + len(found)) + 0.2, 0.8 * rows + 0.6)
    figure, panels = new_figure(rows, 2 + len(found), size=size)
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    for row, beside in enumerate(panels):
        nth, step = divmod(row, each)
        for axes, picture in zip(beside, (content[nth], style), strict=False):
            axes.axis("off")
            if step == 0:
                axes.imshow(picture)
        for axes, pictures in zip(beside[2:], found.values(), strict=True):
            axes.imshow(pictures[nth, step])
        beside[2].set_ylabel(f"step {steps[step]}", fontsize=9)
    for axes, name in zip(panels[0], ("content", "style", *found), strict=True):
        axes.set_title(LABELS.get(name, name), fontsize=10)
    figure.suptitle(title)
    save_figure(figure, path.with_suffix(".png"))
