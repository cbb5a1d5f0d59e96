"""Figures of a learned rule: update against gradient and history, and its state over steps."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from l2ljax.evaluation.page import Figure, Line, curve_traces, number, numbers
from l2ljax.experiments.run_report.groups import sampled
from l2ljax.experiments.run_report.rule import HISTORIES, SEQUENCE, VALUES, Behaviour
from l2ljax.experiments.run_report.training_figures import cell

COORDINATE = "A parameter of one number, 1, that stays where it is."
STRAIGHT = "a straight line would be gradient descent"


def rule_figures(whose: str, rules: Sequence[Behaviour], prefix: str) -> list[Figure]:
    """Three of each rule: responses, updates on a sequence, state on it.

    Args:
        whose: the run's name, or "".
        rules: of the run.
        prefix: of the figures' ids.
    """
    found = []
    for i, rule in enumerate(rules):
        named = " of ".join(part for part in (rule.label, whose) if part)
        of = f", {named}" if named else ""
        found += [_responses(rule, of, f"{prefix}-{i}"), _sequence(rule, of, f"{prefix}-{i}")]
        if rule.state:
            found.append(_state(rule, of, f"{prefix}-{i}"))
    return found


def compared_responses(rules: Mapping[str, Behaviour]) -> Figure:
    """The rules of several runs, without a history."""
    first = next(iter(HISTORIES))
    lines = [
        Line(name, VALUES, rule.responses[first], look=i)
        for i, (name, rule) in enumerate(rules.items())
    ]
    return _against_gradient(
        lines,
        id="rules-compared",
        title="Proposed update against gradient, all runs",
        sentence=f"What each rule does with its first gradient; {STRAIGHT}. {COORDINATE}",
    )


def _responses(rule: Behaviour, of: str, name: str) -> Figure:
    lines = [
        Line(history, VALUES, response, look=i)
        for i, (history, response) in enumerate(rule.responses.items())
    ]
    return _against_gradient(
        lines,
        id=f"responses-{name}",
        title=f"Proposed update against gradient{of}",
        sentence=f"What it does with the next gradient, by those before; {STRAIGHT}. {COORDINATE}",
    )


def _against_gradient(lines: Sequence[Line], *, id: str, title: str, sentence: str) -> Figure:
    traces, legend = curve_traces(lines)
    chosen = np.abs(VALUES) >= 1e-3
    heading, rows = sampled(
        [(line.name, VALUES[chosen], np.asarray(line.y)[chosen]) for line in lines], "gradient"
    )
    at = int(np.argmin(np.abs(VALUES - 1.0)))
    told = "; ".join(f"{line.name}: {number(float(line.y[at]))}" for line in lines[:6])
    return Figure(
        id=id,
        title=title,
        sentence=sentence,
        alt=f"Line chart of the update against the gradient. Updates at a gradient of 1: {told}.",
        x="gradient (log: positive ones)",
        y="update",
        traces=traces,
        legend=legend,
        table=(heading, [list(map(cell, row)) for row in rows]),
        log_x=False,
        log_y=None,
        more={"xRange": [-2, 2]},
    )


def _sequence(rule: Behaviour, of: str, name: str) -> Figure:
    step = np.arange(1, len(SEQUENCE) + 1)
    largest = float(np.nanmax(np.abs(rule.updates))) if np.isfinite(rule.updates).any() else 0.0
    lines = [
        Line("its updates", step, rule.updates, look=0),
        Line(f"gradient descent, rate {largest:.2g}", step, -largest * SEQUENCE, look=1),
    ]
    traces, legend = curve_traces(lines)
    heading, rows = sampled(
        [("gradient", step, SEQUENCE), *((one.name, step, np.asarray(one.y)) for one in lines)],
        "step",
    )
    return Figure(
        id=f"sequence-{name}",
        title=f"Updates on a fixed sequence of gradients{of}",
        sentence="20 gradients of 1, 20 of 1 and -1 in turn, then 20 that die down to 0.001. "
        f"{COORDINATE}",
        alt="Line chart of the update against the step, beside gradient descent whose rate is the "
        f"largest update, {largest:.3g}. The last update is {number(float(rule.updates[-1]))}.",
        x="step",
        y="update",
        traces=traces,
        legend=legend,
        table=(heading, [list(map(cell, row)) for row in rows]),
        log_x=None,
        log_y=None,
    )


def _state(rule: Behaviour, of: str, name: str) -> Figure:
    names, rows = list(rule.state), np.stack(list(rule.state.values()))
    hidden = all("hidden" in one for one in names)
    largest = np.maximum(np.nanmax(np.abs(np.where(np.isfinite(rows), rows, 0)), axis=1), 1e-38)
    shown = rows if hidden else rows / largest[:, None]
    step = list(range(1, len(SEQUENCE) + 1))
    what = "hidden states" if hidden else "state"
    scaled = "" if hidden else " Each row is divided by its largest magnitude."
    cut = len(names) < rule.num_state
    trace = {
        "type": "heatmap",
        "group": what,
        "x": step,
        "y": list(range(1, len(names) + 1)),
        "z": [numbers(row) for row in shown],
        "text": [[f"{escape(n)}: {number(float(v))}" for v in r] for n, r in rule.state.items()],
        "hovertemplate": "%{text}<br>step %{x}<extra></extra>",
        "zmin": -1,
        "zmax": 1,
        "colorscale": [[0, "--low"], [0.5, "--middle"], [1, "--high"]],
        "colorbar": {"thickness": 12, "outlinewidth": 0, "tickvals": [-1, 0, 1]},
    }
    at = [0, 4, 19, 20, 39, 40, 59]
    table = [[n, *(number(float(row[i])) for i in at)] for n, row in zip(names, rows, strict=True)]
    return Figure(
        id=f"state-{name}",
        title=f"Its {what} on that sequence{of}",
        sentence=f"Each row is one number of the state ({len(names)}"
        f"{f' of {rule.num_state}' if cut else ''}), each column a step of the sequence above; "
        f"blue is -1, red 1.{scaled}",
        alt=f"Map of {len(names)} numbers of the state over {len(step)} steps; the table has them.",
        x="step",
        y="hidden state" if hidden else "number of the state",
        traces=[trace],
        legend={what: -1},
        table=(["number", *(f"step {i + 1}" for i in at)], table),
        log_x=None,
        log_y=None,
        more={"hover": "closest", "yAxis": {"autorange": "reversed", "showgrid": False}},
    )
