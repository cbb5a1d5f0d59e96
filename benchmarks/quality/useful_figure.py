"""Judged loss over seconds of meta-training, one line a run, beside the best tuned baselines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l2ljax.evaluation.report import STYLES, log_labels, new_figure, save_figure, shared_legend

NAMES = {"sgd": "SGD", "rmsprop": "RMSprop", "adam": "Adam", "nag": "NAG"}


def draw(
    work: str,
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    baselines: Mapping[str, Any],
    path: Path,
) -> None:
    """Writes the figure; a dot stands where a run becomes useful and stays so.

    Args:
        work: its name.
        runs: recipe -> runs, each with `curve` and `useful_at`.
        baselines: as `useful.baselines` makes them.
        path: of the picture.
    """
    figure, panels = new_figure(size=(7.2, 5.0))
    axes, drawn = panels[0][0], []
    finals = {name: np.mean(found["final"]) for name, found in baselines["optimizers"].items()}
    for name in sorted(finals, key=lambda name: finals[name])[:2]:
        axes.axhline(finals[name], color="0.45", linewidth=0.9, linestyle=":")
        axes.annotate(
            f"{NAMES.get(name, name)}, tuned", (1.0, finals[name]), fontsize=8, color="0.35",
            xycoords=("axes fraction", "data"), ha="right", va="bottom",
        )  # fmt: skip
        drawn.append(finals[name])
    times: list[float] = []
    for (recipe, found), style in zip(runs.items(), STYLES, strict=False):
        for number, run in enumerate(found):
            seconds = [point["seconds"] for point in run["curve"]]
            losses = [point["final"] for point in run["curve"]]
            label = recipe if number == 0 else None
            axes.step(seconds, losses, where="post", label=label, alpha=0.85, **style)
            drawn += losses
            times += seconds
            if run["useful_at"] is not None:
                loss = next(p["final"] for p in run["curve"] if p["seconds"] == run["useful_at"])
                axes.plot([run["useful_at"]], [loss], "o", color=style["color"], markersize=5)
    lowest = min(drawn)
    highest = min(max(drawn), 30 * lowest)
    log_labels(axes, "y", lowest, highest)
    axes.set_ylim(lowest / 1.04, highest * 1.04)
    log_labels(axes, "x", min(times), max(times))
    axes.set_xlabel("seconds of meta-training, compilation included (2 CPU cores)")
    axes.set_ylabel(f"loss after {baselines['num_steps']} steps, fresh optimizees")
    axes.set_title(f"{work}: a dot where it is below every tuned baseline", fontsize=10)
    axes.grid(alpha=0.25, linewidth=0.5)
    shared_legend(figure, axes, columns=2)
    save_figure(figure, path)
