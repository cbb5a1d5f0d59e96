"""Figures: styles that stay apart, round labels on a log scale, legends beside the curves.

They need matplotlib: `pip install "l2ljax[plots]"`.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Dark to light as well as by hue and dash, so that curves stay apart in grey: a learned optimizer,
# the baselines, further learned ones.
STYLES = (
    {"color": "#b2182b", "linestyle": "-", "linewidth": 2.4},
    {"color": "#2b2b2b", "linestyle": "--", "linewidth": 1.6},
    {"color": "#1f78b4", "linestyle": "-.", "linewidth": 1.6},
    {"color": "#4d9221", "linestyle": ":", "linewidth": 2.0},
    {"color": "#e08214", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "linewidth": 1.6},
    {"color": "#7b3294", "linestyle": (0, (8, 2)), "linewidth": 2.4},
    {"color": "#01665e", "linestyle": (0, (3, 1)), "linewidth": 2.4},
    {"color": "#d6539a", "linestyle": (0, (1, 1, 4, 1)), "linewidth": 2.0},
    {"color": "#8c510a", "linestyle": (0, (6, 1, 2, 1)), "linewidth": 1.6},
    {"color": "#6baed6", "linestyle": (0, (2, 1, 2, 3)), "linewidth": 2.0},
)


def styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A style for each name; beyond `STYLES`, colours go with the next dashes.

    Example:
        >>> found = styles([f"optimizer_{i}" for i in range(40)])
        >>> len({str(style) for style in found.values()})
        40
    """
    found, number = {}, len(STYLES)
    for i, name in enumerate(names):
        lap, at = divmod(i, number)
        dashes = STYLES[(at + lap) % number]
        found[name] = STYLES[at] | {"linestyle": dashes["linestyle"]}
    return found


def scale(axes: Any, curves: Sequence[np.ndarray], from_step: int) -> None:
    """A log scale whose lowest label is at its bottom, and as few more as can be read."""
    values = np.concatenate(curves)
    values = values[np.isfinite(values) & (values > 0)]
    axes.set_yscale("log")
    if not len(values):
        return
    top = values.max() * 1.1
    starts = [curve[0] for curve in curves if np.isfinite(curve[0]) and curve[0] > 0]
    if not from_step and starts:  # a baseline that starts by climbing must not squeeze the others
        top = min(top, 1.5 * max(starts))
    axes.set_ylim(_round_labels(axes.yaxis, min(values.min(), top / 1.01), top), top)


def log_labels(axes: Any, which: str, low: float, high: float) -> None:
    """A log scale from a round value below `low` to above `high`, on the axis "x" or "y"."""
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}lim")(_round_labels(axis, low, 1.1 * high), 1.1 * high)


def _round_labels(axis: Any, low: float, high: float) -> float:
    """Labels of `tick_values` alone; returns the lowest."""
    from matplotlib import ticker

    ticks = tick_values(low, high)
    axis.set_major_locator(ticker.FixedLocator(ticks))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(ticker.NullLocator())
    return ticks[0]


def tick_values(low: float, high: float) -> list[float]:
    """Round values of a log scale: the first is at most `low`, all others are below `high`.

    Example:
        >>> tick_values(0.0042, 4.0)
        [0.001, 0.01, 0.1, 1.0]
        >>> tick_values(0.27, 2.4)
        [0.2, 0.3, 0.5, 1.0, 2.0]
        >>> tick_values(1.31, 1.55)
        [1.3, 1.35, 1.4, 1.45, 1.5, 1.55]
        >>> tick_values(1.3, 2.75)
        [1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 2.4, 2.6]
    """
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high))
    if high / low > 300:
        every = max(1, math.ceil((last - first) / 10))
        return [float(f"1e{power}") for power in range(first, last + 1, every)]
    if high / low > 4:
        decades = range(first, last + 1)
        found = [float(f"{sub}e{power}") for power in decades for sub in (1, 2, 3, 5)]
    else:
        step = 10 ** math.floor(math.log10((high - low) / 2))
        step *= next(by for by in (0.5, 1, 2, 5, 10) if (high - low) / (by * step) <= 8)
        begin = math.floor(low / step + 1e-9)
        found = [float(f"{i * step:.6g}") for i in range(begin, math.floor(high / step + 1e-9) + 1)]
    begin = max([tick for tick in found if 0 < tick <= low], default=low)
    return [begin, *(tick for tick in found if begin < tick <= high)]


def legend(axes: Any, fontsize: int, columns: int = 2) -> None:
    """Below the panel, where no curve is."""
    axes.legend(
        frameon=False,
        fontsize=fontsize,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
        ncols=columns,
        handlelength=3.2,
    )


def shared_legend(figure: Any, axes: Any, columns: int = 3, title: str | None = None) -> None:
    """One for all panels of a figure, below them; its names are those of `axes`."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        title=title,
        frameon=False,
        loc="outside lower center",
        ncols=columns,
        handlelength=3.2,
    )


def matplotlib_pyplot() -> Any:
    """Without a window; a ModuleNotFoundError says how to install it."""
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'Figures need matplotlib, which is not installed; run: pip install "l2ljax[plots]"'
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def new_figure(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float], **options: Any
) -> Any:
    """A figure and its panels, `[rows, columns]`."""
    return matplotlib_pyplot().subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, **options
    )


def save_figure(figure: Any, path: str | Path, dpi: int = 150) -> None:
    """Writes `figure` as a PNG and forgets it."""
    figure.savefig(path, dpi=dpi)
    matplotlib_pyplot().close(figure)
