"""Meta-training curves of runs as a picture, for a paper or a README."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l2ljax.evaluation.report import legend, new_figure, scale, styles
from l2ljax.experiments.run_report.groups import grouped
from l2ljax.experiments.run_report.runs import read_runs
from l2ljax.experiments.run_report.training_figures import KINDS, lines_of, log_choice
from l2ljax.storage.workdir import make_directory, write_atomically

ENDINGS = (".png", ".svg", ".pdf")


def save_training_curves(
    workdirs: Sequence[str | Path], out: str | Path, *, against_seconds: bool = False
) -> Path:
    """Draws meta-loss and validation loss of runs; of several seeds, median and spread.

    Args:
        workdirs: as in `write_report`.
        out: a file that ends in one of `ENDINGS`; it is whole or not there.
        against_seconds: instead of meta-updates; where a run's total is not known, it is refused.

    Returns:
        `out`.

    Raises:
        ValueError, FileNotFoundError: as `write_report`, and for another ending.
        ModuleNotFoundError: without Matplotlib, saying how to install it.
    """
    out = Path(out)
    if out.suffix not in ENDINGS:
        raise ValueError(f"A picture ends in {', '.join(ENDINGS)}, got {str(out)!r}.")
    runs = read_runs(workdirs, rules=against_seconds)
    if against_seconds:
        unknown = [run.name for run in runs if run.seconds_at(np.ones(1)) is None]
        if unknown:
            raise ValueError(
                f"The time that {unknown[0]} took is not known before its first checkpoint; leave "
                "--seconds out."
            )
    groups = grouped(runs)
    panels = {what: lines for what in KINDS if (lines := lines_of(what, groups))}
    if not panels:
        raise ValueError(f"The history in {runs[0].workdir} has no meta_loss.")
    figure, axes = new_figure(1, len(panels), size=(5.0 * len(panels), 4.4))
    for one, (what, lines) in zip(axes[0], panels.items(), strict=True):
        _draw(one, what, lines, against_seconds)
    content = io.BytesIO()
    figure.savefig(content, dpi=150, format=out.suffix[1:])
    _forget(figure)
    make_directory(out.parent)
    write_atomically(out, content.getvalue())
    return out


def _draw(axes: Any, what: str, lines: Sequence[Any], against_seconds: bool) -> None:
    looks = styles([f"{i}" for i in range(1 + max(line.look for line in lines))])
    for line in lines:
        x, look = line.other if against_seconds else line.x, looks[f"{line.look}"]
        if line.thin:
            axes.plot(x, line.y, color=look["color"], linewidth=0.7, alpha=0.35)
            continue
        axes.plot(x, line.y, label=line.name.replace("$", r"\$"), **look)  # no formula
        if line.low is not None:
            band = {"color": look["color"], "alpha": 0.18, "linewidth": 0}
            axes.fill_between(x, line.low, line.high, label="from lowest to highest", **band)
    curves = [np.asarray(line.y, np.float64) for line in lines]
    positive, wide = log_choice(curves)
    if positive and wide:
        scale(axes, curves, from_step=1)
    axes.set_xlabel("seconds" if against_seconds else "meta-updates")
    axes.set_ylabel(KINDS[what][0].lower())
    axes.set_title(KINDS[what][0], fontsize=12)
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    legend(axes, fontsize=9, columns=1)


def _forget(figure: Any) -> None:
    from matplotlib import pyplot

    pyplot.close(figure)
