"""One self-contained HTML page of all figures: pictures, numbers, commands and deviations."""

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from l2ljax.bundled import load_optimizer, weights_path
from l2ljax.evaluation.page import code, definitions, details, frame, html_table
from l2ljax.evaluation.report import LABELS
from l2ljax.paper.deviations import fill

INTRODUCTION = (
    "Each figure of Andrychowicz et al. (2016), made by l2ljax. All optimizers of a figure meet "
    "the same fresh optimizees and minibatches; learning rates are tuned on others. Intervals in "
    "brackets and bands are 95&nbsp;% confidence intervals of the mean over optimizees, for one "
    "meta-training each: they do not say how much another seed of meta-training would change."
)

LARGE = 1100
"""Pixels from which on a picture is too wide for a phone."""

DEVIATION_COLUMNS = ("what", "paper", "released code", "here", "what a switch does")


def report(
    figures: Mapping[str, Mapping[str, Any]],
    deviations: Sequence[Sequence[str]],
    directory: Path,
    measured: Path,
) -> str:
    """The page, from what `l2ljax.paper.reproduction` wrote.

    Args:
        figures: name -> figure, as in `l2ljax.paper.figure_list`.
        deviations: rows of `DEVIATION_COLUMNS`, with the names of `l2ljax.paper.deviations.fill`.
        directory: holds one folder a figure; figures without a picture there are named as missing.
        measured: folder of what benchmarks/quality/deviations.py measured, beside those of
            evaluations; it may be missing, then the table says what was not measured.

    Returns:
        HTML that needs no other file and no network.
    """
    made = [name for name in figures if list((directory / name).glob("*.png"))]
    missing = [name for name in figures if name not in made]
    links = {name: figures[name]["title"] for name in made}
    links["deviations"] = "Where paper, released code and this project differ"
    body = [
        f"<p>{INTRODUCTION}</p>",
        f'<p class="note">Not made yet: {escape(", ".join(missing))}.</p>' if missing else "",
        "<nav><ul>",
        *(f'<li><a href="#{escape(n)}">{escape(title)}</a></li>' for n, title in links.items()),
        "</ul></nav>",
        *(_section(name, figures[name], directory / name) for name in made),
        f'<h2 id="deviations">{links["deviations"]}</h2>',
        _deviations(deviations, measured),
    ]
    return frame("Learning to learn by gradient descent by gradient descent: the figures", body)


def _section(name: str, figure: Mapping[str, Any], directory: Path) -> str:
    summary, made = _read(directory / "summary.json"), _read(directory / "made.json")
    parts = [f'<h2 id="{escape(name)}">{escape(figure["title"])}</h2>']
    if made.get("quick"):
        parts.append('<p class="warning">A smoke run: its numbers mean nothing.</p>')
    if "note" in figure:
        parts.append(f"<p>{escape(figure['note'])}</p>")
    alt = _alt(figure, summary)
    parts += [_picture(path, alt) for path in sorted(directory.glob("*.png"))]
    if summary:
        parts.append(_numbers(summary, figure["title"]))
    about = [("Paper", f"section {escape(figure['section'])}")]
    about.append(("Command", code(f"l2ljax reproduce --figure={name}")))
    if evaluation := _evaluation(directory, made):
        about.append(("Evaluation", evaluation))
    if "weights" in figure:
        beside = figure.get("evaluation", {}).get("beside", {})
        shown = dict.fromkeys((figure["weights"], *beside.values()))
        about += [("Weights", _training(weights)) for weights in shown]
    parts.append(definitions(about))
    return "\n".join(parts)


def _evaluation(directory: Path, made: Mapping[str, Any]) -> str:
    """Optimizees, seed, hardware and time, as far as the figure's JSON files tell."""
    found = {"hardware": made.get("hardware")}
    for path in sorted(directory.glob("*.json")):
        content = _read(path)
        found |= {key: content[key] for key in ("num_tasks", "seed", "hardware") if key in content}
    tasks = found.get("num_tasks")
    if not tasks:
        return ""
    parts = [
        f"{tasks:,} optimizee{'s' * (tasks > 1)}",
        f"seed {found['seed']}" if "seed" in found else "",
        found["hardware"] or "",
        f"{made['seconds']:.0f} s" if "seconds" in made else "",
    ]
    return escape(", ".join(part for part in parts if part))


def _training(weights: str) -> str:
    metadata = load_optimizer(weights_path(weights))[2]
    config = metadata["config"]
    return (
        f"{code(weights)}: {config['num_meta_updates']:,} meta-updates in "
        f"{metadata['seconds'] / 60:.0f} minutes on {escape(metadata['hardware'])}, seed "
        f"{config['seed']}, best after {metadata['best_update']:,}; {code(metadata['command'])}"
    )


def _numbers(summary: Mapping[str, Any], title: str) -> str:
    optimizers = summary["optimizers"]
    measures = [
        ("final_loss", f"loss after {summary['num_steps']} steps"),
        ("tuned_loss", f"after {summary.get('num_tuning_steps')}, as tuned for"),
        ("expected_loss", f"over {summary.get('final_batches')} more minibatches"),
        ("accuracy", "accuracy on unseen images"),
    ]
    measures = [(key, title) for key, title in measures if key in next(iter(optimizers.values()))]
    above = summary.get("above", {"of": "", "losses": {}})
    compared = [f"above the loss of {LABELS.get(above['of'], above['of'])}"] if above["of"] else []
    heading = ["optimizer", "rate", *(title for _, title in measures), *compared]
    heading += ["median", "diverged"]
    rows = [
        [
            LABELS.get(name, name),
            "learned" if row["learning_rate"] is None else f"{row['learning_rate']:.3g}",
            *(_interval(row[key]) for key, _ in measures),
            *(_above(above["losses"].get(name)) for _ in compared),
            _interval({"mean": row["final_loss"]["median"]}),
            str(row["diverged"]),
        ]
        for name, row in optimizers.items()
    ]
    return html_table(heading, rows, "numbers", f"Losses: {title}")


def _above(differences: Mapping[str, Any] | None) -> str:
    """The least noisy of the differences at the last step; none of the first to itself."""
    if differences is None:
        return ""
    return _interval(differences.get("expected_loss", differences["final_loss"]))


def _deviations(rows: Sequence[Sequence[str]], measured: Path) -> str:
    found = _read(measured / "deviations.json")
    summaries = {p.parent.name: _read(p) for p in measured.parent.glob("*/summary.json")}
    command = definitions([("Command", code("python benchmarks/quality/deviations.py"))])
    if not found:
        nothing = {"optimizers": {}, "runs": {}}
        return (
            html_table(DEVIATION_COLUMNS, fill(rows, nothing, summaries), "cards", "Deviations")
            + command
        )
    how = f"{found['num_tasks']} fresh optimizees, seed {found['seed']}, {found['hardware']}."
    parts = [
        f"<p>{escape(found['about'])} {escape(how)}</p>",
        _picture(
            measured / "deviations.png", "Deviations: losses with each one, also in the table"
        ),
        html_table(DEVIATION_COLUMNS, fill(rows, found, summaries), "cards", "Deviations"),
        command,
        details(
            "The meta-training of each",
            definitions(
                (escape(run["title"]), f"{run['seconds'] / 60:.0f} minutes; {code(run['command'])}")
                for run in found["runs"].values()
            ),
        ),
    ]
    return "\n".join(parts)


def _interval(statistics: Mapping[str, Any]) -> str:
    if statistics["mean"] is None:
        return "not finite"
    mean = f"{statistics['mean']:#.3g}"
    if None in statistics.get("ci95", [None]):
        return mean
    low, high = statistics["ci95"]
    return f"{mean} [{low:#.3g}, {high:#.3g}]"


KINDS = {
    "architectures": "final losses over units a layer, a panel a depth, with their intervals",
    "panels": "mean losses over inner steps, a panel a data set and number of steps",
    "pictures": "photographs, styles, and what each optimizer has painted after some steps",
    "preprocessing": "the two features of a gradient against the gradient, a panel a value of p",
    "updates": "updates of optimizers for single coordinates, a panel a coordinate",
}
"""What a picture shows, of those that are not curves."""


def _alt(figure: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """What is in the picture, for people who do not see it."""
    if not summary:
        return f"{figure['title']}: {KINDS.get(figure.get('kind', ''), 'a picture')}"
    ends = (
        f"{LABELS.get(name, name)} {_interval({'mean': row['final_loss']['mean']})}"
        for name, row in summary["optimizers"].items()
    )
    steps = f"mean losses over inner steps; after {summary['num_steps']}"
    return f"{figure['title']}: {steps}, {', '.join(ends)}"


def _picture(path: Path, title: str) -> str:
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])  # a PNG's header
    data = base64.b64encode(content).decode()
    alt = escape(title)
    size = f'width="{width}" height="{height}"'
    kind = ' class="large"' if width > LARGE else ""  # to be moved sideways on a phone
    return (
        f'<div class="wide" tabindex="0" role="group" aria-label="{escape(path.stem)}">'
        f'<img{kind} alt="{alt}" {size} src="data:image/png;base64,{data}"></div>'
    )


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
