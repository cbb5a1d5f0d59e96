"""What each difference from the paper and its released code does, for people to read.

benchmarks/quality/deviations.py measures it: optimizers meta-trained alike but for one setting.
"""

import collections
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l2ljax.evaluation.report import LABELS, STYLES, log_labels, new_figure, save_figure

NOT_MEASURED = "(not measured yet)"


def fill(
    rows: Sequence[Sequence[str]], found: Mapping[str, Any], summaries: Mapping[str, Any]
) -> list[list[str]]:
    """Rows whose names in braces are replaced by final losses, "0.31 [0.29, 0.33]".

    A name that is not found is replaced by `NOT_MEASURED`.

    Args:
        rows: of texts; `{output-scale}` is the learned optimizer of the run output-scale, `{adam}`
            a baseline, `{init/adam}` that baseline on the run's own task, `{mnist/nag}` an
            optimizer of the evaluation mnist.
        found: the content of deviations.json.
        summaries: name -> content of an evaluation's summary.json.

    Example:
        >>> loss = {"final_loss": {"mean": 0.3, "ci95": [0.25, 0.35]}}
        >>> found = {"optimizers": {"adam": loss}, "runs": {"init": {"optimizers": {"lstm": loss}}}}
        >>> fill([["start", "{init} beside {adam}"]], found, {})
        [['start', '0.300 [0.250, 0.350] beside 0.300 [0.250, 0.350]']]
    """
    texts = {name: _interval(row) for name, row in found["optimizers"].items()}
    for run, content in found["runs"].items():
        for name, row in content["optimizers"].items():
            texts[run if name == "lstm" else f"{run}/{name}"] = _interval(row)
    for evaluation, summary in summaries.items():
        for name, row in summary["optimizers"].items():
            texts[f"{evaluation}/{name}"] = _interval(row)
    known = collections.defaultdict(lambda: NOT_MEASURED, texts)
    return [[cell.format_map(known) for cell in row] for row in rows]


def save_deviations(path: str | Path) -> None:
    """Draws final and mean losses of all runs beside baselines, next to the JSON that has them."""
    path = Path(path)
    found = json.loads(path.read_text())
    rows = [(LABELS[name], row, "o") for name, row in found["optimizers"].items()]
    for run in found["runs"].values():
        for name, row in run["optimizers"].items():
            own = name != "lstm"
            title = f"{LABELS[name]} on that task" if own else run["title"]
            rows.append((title, row, "o" if own else "s"))
    figure, panels = new_figure(1, 2, size=(9.6, 0.34 * len(rows) + 1.4), sharey=True)
    seeds = [
        run["optimizers"]["lstm"]
        for name, run in found["runs"].items()
        if name.startswith("reference")
    ]
    for axes, (key, label) in zip(
        panels[0],
        (("final_loss", f"loss after {found['num_steps']} steps"), ("mean_loss", "mean over them")),
        strict=True,
    ):
        for at, (_, row, marker) in enumerate(rows):
            mean, low, high = _mean_and_ends(row, key)
            if mean is None:
                continue
            color = STYLES[0 if marker == "s" else 2]["color"]
            ends = None if low is None else [[mean - low], [high - mean]]
            axes.errorbar(mean, at, xerr=ends, fmt=marker, color=color, capsize=3)
        means = [_mean_and_ends(row, key)[0] for row in seeds]
        if None not in means:  # effects within the band are no larger than those of a seed
            axes.axvspan(min(means), max(means), color="0.88", linewidth=0.8, zorder=0)
        axes.set_xlabel(label)
        if ends_of_all := [e for _, row, _ in rows for e in _mean_and_ends(row, key) if e]:
            log_labels(axes, "x", 0.98 * min(ends_of_all), max(ends_of_all))
        axes.grid(alpha=0.25, linewidth=0.5)
    panels[0][0].set_yticks(range(len(rows)), [title for title, _, _ in rows])
    panels[0][0].invert_yaxis()
    figure.suptitle(
        f"Mean of {found['num_tasks']} optimizees, 95 % confidence intervals; "
        f"grey: between the reference's {len(seeds)} seeds"
    )
    save_figure(figure, path.with_suffix(".png"))


def _mean_and_ends(row: Mapping[str, Any], key: str) -> tuple[Any, Any, Any]:
    """Of `final_loss` or `mean_loss`; `None` each where an optimizee diverged or they are few."""
    if key == "final_loss":
        return row[key]["mean"], *row[key]["ci95"]
    return row["mean_loss"], *row["mean_loss_ci95"]


def _interval(row: Mapping[str, Any]) -> str:
    mean, low, high = _mean_and_ends(row, "final_loss")
    if mean is None:
        return "not finite"
    if low is None:
        return f"{mean:#.3g}"
    return f"{mean:#.3g} [{low:#.3g}, {high:#.3g}]"
