"""Long runs of learned optimizers -> counts and quantiles, and the table that shows them."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from l2ljax.experiments import experiment

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)


def summarise(losses: np.ndarray, finite: np.ndarray) -> dict[str, Any]:
    """Counts and quantiles over runs.

    A run's final loss is its mean over the last 1 % of the steps, those whose minibatch is at fault
    (NaN) left out; that of a run without any other is infinite.

    Args:
        losses: `[runs, steps]`, the loss before each step.
        finite: `[runs, parameters]`, whether each parameter ended finite.
    """
    tail = losses[:, -max(1, losses.shape[1] // 100) :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing
        final = np.nanmean(tail, axis=1)
    final = np.where(np.isnan(final), np.inf, final)
    quantiles = np.quantile(final, QUANTILES, method="inverted_cdf")
    early = losses[:, min(100, losses.shape[1] - 1)]
    return {
        "runs": len(losses),
        "steps": losses.shape[1],
        "parameters": finite.size,
        "nonfinite_parameters": int((~finite).sum()),
        "runs_with_nonfinite_parameters": int((~finite.all(axis=1)).sum()),
        "nonfinite_losses": int((~np.isfinite(losses)).sum()),
        "runs_that_end_above_their_start": int((final > losses[:, 0]).sum()),
        "median_loss_at_step_100": _number(np.nanmedian(early)),
        "final_loss_quantiles": {
            f"{q:g}": _number(x) for q, x in zip(QUANTILES, quantiles, strict=True)
        },
    }


def _number(value: Any) -> float | None:
    """A JSON number of 4 digits; null for one that is not finite."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of the documentation."""
    heads = ["optimizer", "task", "settings", "non-finite parameters", "runs that end above start"]
    heads += ["loss at step 100", "final loss: least", "5 %", "median", "95 %", "most"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        counts = f"{row['nonfinite_parameters']:,} of {row['parameters']:,}"
        above = f"{row['runs_that_end_above_their_start']} of {row['runs']}"
        losses = [row["median_loss_at_step_100"], *row["final_loss_quantiles"].values()]
        texts = ["not finite" if x is None else f"{x:.3g}" for x in losses]
        lines.append([row["optimizer"], row["task"], row["settings"], counts, above, *texts])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def saved(out: Path) -> list[dict[str, Any]]:
    """The rows of the folder's report."""
    path = out / "stability.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def save(row: dict[str, Any], out: Path) -> None:
    """Adds a row to the folder's report, in place of an older one of the same case."""
    case = ("optimizer", "task", "settings")
    rows = [r for r in saved(out) if any(r[name] != row[name] for name in case)] + [row]
    rows.sort(key=lambda r: [r[name] for name in case])
    report = {"hardware": experiment.hardware(), "rows": rows}
    out.mkdir(parents=True, exist_ok=True)
    (out / "stability.json").write_text(json.dumps(report, indent=1) + "\n")
    (out / "stability.md").write_text(markdown(rows))
