"""Interactive figures of a page: curves, bands and maps that plotly.js draws in the browser.

Needs plotly, whose JavaScript goes into the page: `pip install "l2ljax[report]"`. Each figure has
buttons for its curves and axes, a sentence for people who do not see it, and a table behind it.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from l2ljax.evaluation.page.parts import asset, details, table

NUM_TONES = 8
"""Colours of curves in style.css, `--series-0` and so on; each is readable in light and dark."""

DASHES = ("solid", "dash", "dashdot", "dot", "longdash", "longdashdot")
STROKES = {
    "solid": "", "dash": "5 3", "dashdot": "5 2 1 2", "dot": "1 3", "longdash": "8 3",
    "longdashdot": "8 2 1 2",
}  # fmt: skip
"""How a legend draws plotly's dashes."""

SWITCHES = {"logX": "Log x", "logY": "Log y"}


class Line(NamedTuple):
    """One curve of a figure, with the band around it if it has one.

    Attributes:
        name: in the legend; curves of one name are switched on and off together.
        x: `[n]`.
        y: `[n]`; what is not finite is left out.
        low, high: `[n]`, of the band.
        other: `[n]`, x on the other axis that the figure offers.
        look: number of its colour and dash.
        thin: one of several that another curve sums up.
    """

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    low: Sequence[float] | np.ndarray | None = None
    high: Sequence[float] | np.ndarray | None = None
    other: Sequence[float] | np.ndarray | None = None
    look: int = 0
    thin: bool = False


class Figure(NamedTuple):
    """A figure: what it shows, and how it is told.

    Attributes:
        id: unique on the page, a word.
        title: above it.
        sentence: what there is to see.
        alt: the same for people who do not see it: what kind of picture, of which axes.
        x, y: titles of the axes.
        traces: plotly's, with the `group` that a button of the legend switches, and maybe `other`.
        legend: group -> its look, or -1 for none.
        table: heading and rows of the numbers.
        log_x, log_y: how it begins; `None` where there is no choice.
        other: title of the other x axis, if there is one.
        more: of what figures.js takes: `xRange`, `yRange`, `yAxis`, `hover`, `hidden`.
    """

    id: str
    title: str
    sentence: str
    alt: str
    x: str
    y: str
    traces: Sequence[Mapping[str, Any]]
    legend: Mapping[str, int]
    table: tuple[Sequence[str], Sequence[Sequence[str]]]
    log_x: bool | None = False
    log_y: bool | None = False
    other: str | None = None
    more: Mapping[str, Any] = {}

    def spec(self) -> dict[str, Any]:
        """What figures.js draws."""
        return {
            "id": self.id, "x": self.x, "y": self.y, "other": self.other,
            "logX": bool(self.log_x), "logY": bool(self.log_y), "traces": list(self.traces),
            "hidden": [], **self.more,
        }  # fmt: skip

    def html(self) -> str:
        """Everything of it but the data."""
        heading, rows = self.table
        choices = {"logX": self.log_x, "logY": self.log_y}
        buttons = [
            _button(self.id, "set", name, SWITCHES[name], bool(on))
            for name, on in choices.items()
            if on is not None
        ]
        if self.other is not None:
            buttons.append(_button(self.id, "set", "other", f"Against {self.other}", False))
        hidden = set(self.more.get("hidden", ()))
        names = [
            _button(self.id, "group", group, group, group not in hidden, _swatch(look))
            for group, look in self.legend.items()
        ]
        caption = f"caption-{self.id}"
        return "\n".join(
            [
                f'<figure aria-labelledby="{caption}">',
                f'<figcaption id="{caption}"><h3>{escape(self.title)}</h3>',
                f"{escape(self.sentence)}</figcaption>",
                _bar("", f"Axes of: {self.title}", buttons),
                _bar(" legend", f"Curves of: {self.title}", names if len(names) > 1 else []),
                f'<div class="plot" id="plot-{self.id}" role="img"',
                f'aria-label="{escape(self.alt)}"></div>',
                details("The numbers", table(heading, rows, "numbers", f"Numbers: {self.title}")),
                "</figure>",
            ]
        )


def curve_traces(curves: Iterable[Line]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Plotly's traces of curves, bands first, and the legend.

    Example:
        >>> traces, legend = curve_traces([Line("a", [0, 1], [2.0, 3.0], [1.0, 2.0], [3.0, 4.0])])
        >>> [trace["mode"] for trace in traces], legend
        (['lines', 'lines', 'lines'], {'a': 0})
    """
    bands, thin, lines, legend = [], [], [], {}
    for curve in curves:
        tone = f"--series-{curve.look % NUM_TONES}"
        legend.setdefault(curve.name, curve.look)
        common: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines",
            "group": curve.name,
            "name": escape(curve.name),  # plotly reads some HTML
            "x": numbers(curve.x),
        }
        if curve.other is not None:
            common["other"] = numbers(curve.other)
        if curve.low is not None and curve.high is not None:
            edge = {**common, "line": {"width": 0, "color": tone}, "hoverinfo": "skip"}
            bands.append({**edge, "y": numbers(curve.low)})
            bands.append(
                {**edge, "y": numbers(curve.high), "fill": "tonexty", "fillcolor": f"{tone}/2e"}
            )
        line = {"color": tone, "width": 1 if curve.thin else 2.2, "dash": dash(curve.look)}
        if curve.thin:
            line |= {"dash": "solid"}
        shown = {"hoverinfo": "skip", "opacity": 0.45} if curve.thin else _HOVER
        one = {**common, "y": numbers(curve.y), "line": line, **shown}
        (thin if curve.thin else lines).append(one)
    return bands + thin + lines, legend


_HOVER = {"hovertemplate": "%{y:.4g}"}


def dash(look: int) -> str:
    """A dash for each look, so that curves stay apart without colours; with them, 48 do."""
    return DASHES[(look % NUM_TONES + look // NUM_TONES) % len(DASHES)]


def numbers(values: Any) -> list[float | None]:
    """Six digits of each, `None` for what is not finite."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in np.asarray(values, np.float64)]


def plotly_source() -> str:
    """plotly.js, for a page that has figures.

    Raises:
        ModuleNotFoundError: without plotly, saying how to install it.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'A report needs plotly, which is not installed; run: pip install "l2ljax[report]"'
        ) from error
    return get_plotlyjs()


def scripts() -> list[str]:
    """What a page with figures runs, for `frame`."""
    return [plotly_source(), asset("figures.js")]


def _button(figure: str, kind: str, value: str, text: str, pressed: bool, before: str = "") -> str:
    look = ' class="switch"' if kind == "set" else ""
    return (
        f'<button type="button"{look} data-figure="{figure}" data-{kind}="{escape(value)}" '
        f'aria-pressed="{str(pressed).lower()}">{before}{escape(text)}</button>'
    )


def _bar(kind: str, label: str, buttons: Sequence[str]) -> str:
    if not buttons:
        return ""
    return (
        f'<div class="bar{kind}" role="group" aria-label="{escape(label)}">{"".join(buttons)}</div>'
    )


def _swatch(look: int) -> str:
    if look < 0:
        return ""
    stroke, dashes = f"var(--series-{look % NUM_TONES})", STROKES[dash(look)]
    return (
        '<svg width="26" height="8" aria-hidden="true"><line x1="1" y1="4" x2="25" y2="4" '
        f'stroke="{stroke}" stroke-width="2.5" stroke-dasharray="{dashes}"/></svg>'
    )
