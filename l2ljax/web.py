"""One self-contained HTML page of all figures: pictures, numbers, commands and deviations."""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from l2ljax.pretrained import load_optimizer, weights_path
from l2ljax.report import LABELS

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: auto;
  padding: 1rem }
img { max-width: 100%; height: auto }
h2 { margin-top: 2.5rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 0.9rem }
th, td { text-align: left; padding: 0.25rem 0.7rem; border-bottom: 1px solid #ddd;
  vertical-align: top }
td.number { text-align: right; white-space: nowrap }
code { overflow-wrap: anywhere; font-size: 0.9em }
.note { color: #555; font-size: 0.9rem }
"""

INTRODUCTION = (
    "Each figure of Andrychowicz et al. (2016), made by l2ljax. All optimizers of a figure meet "
    "the same fresh optimizees and minibatches; learning rates are tuned on others. Intervals are "
    "95&nbsp;% bootstrap intervals of the mean over optimizees."
)

DEVIATION_COLUMNS = ("what", "paper", "released code", "here", "what a switch does")


def report(
    figures: Mapping[str, Mapping[str, Any]],
    deviations: Sequence[Sequence[str]],
    directory: Path,
) -> str:
    """The page, from what `l2ljax.paper` wrote.

    Args:
        figures: name -> figure, as in scripts/figures.py.
        deviations: rows of `DEVIATION_COLUMNS`.
        directory: holds one folder a figure; figures without a picture there are named as missing.

    Returns:
        HTML that needs no other file and no network.
    """
    sections = [_section(name, figure, directory / name) for name, figure in figures.items()]
    missing = [name for name in figures if not list((directory / name).glob("*.png"))]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>l2ljax: the figures</title><style>{STYLE}</style></head><body>",
        "<h1>Learning to learn by gradient descent by gradient descent: the figures</h1>",
        f"<p>{INTRODUCTION}</p>",
        f'<p class="note">Not made yet: {escape(", ".join(missing))}.</p>' if missing else "",
        *sections,
        "<h2>Where paper, released code and this project differ</h2>",
        _table(DEVIATION_COLUMNS, deviations),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _section(name: str, figure: Mapping[str, Any], directory: Path) -> str:
    pictures = sorted(directory.glob("*.png"))
    if not pictures:
        return ""
    parts = [f'<h2 id="{escape(name)}">{escape(figure["title"])}</h2>']
    for picture in pictures:
        data = base64.b64encode(picture.read_bytes()).decode()
        alt = escape(f"{figure['title']}: the numbers are in the table, if there is one")
        parts.append(f'<img alt="{alt}" src="data:image/png;base64,{data}">')
    summary = _read(directory / "summary.json")
    if summary:
        parts.append(_numbers(summary))
    made = _read(directory / "made.json")
    if made.get("quick"):
        parts.append('<p class="note">A smoke run: its numbers mean nothing.</p>')
    if "command" in made:
        parts.append(
            f'<p class="note">Made in {made["seconds"]:.0f} s by <code>{escape(made["command"])}'
            f"</code> (paper, section {escape(figure['section'])}).</p>"
        )
    if "weights" in figure:
        parts.append(_training(figure))
    return "\n".join(parts)


def _training(figure: Mapping[str, Any]) -> str:
    metadata = load_optimizer(weights_path(figure["weights"]))[2]
    return (
        f'<p class="note">Weights <code>{escape(figure["weights"])}</code>: meta-trained in '
        f"{metadata['seconds']:.0f} s on {escape(metadata['hardware'])}, seed "
        f"{metadata['config']['seed']}, by <code>{escape(metadata['command'])}</code>.</p>"
    )


def _numbers(summary: Mapping[str, Any]) -> str:
    optimizers = summary["optimizers"]
    measures = [
        ("final_loss", f"loss after {summary['num_steps']} steps"),
        ("tuned_loss", f"after {summary.get('num_tuning_steps')}, as tuned for"),
        ("accuracy", "accuracy on unseen images"),
    ]
    measures = [(key, title) for key, title in measures if key in next(iter(optimizers.values()))]
    heading = ["optimizer", "rate", *(title for _, title in measures), "diverged"]
    rows = [
        [
            LABELS.get(name, name),
            "learned" if row["learning_rate"] is None else f"{row['learning_rate']:.3g}",
            *(_interval(row[key]) for key, _ in measures),
            str(row["diverged"]),
        ]
        for name, row in optimizers.items()
    ]
    about = f"{summary['num_tasks']} optimizees, seed {summary['seed']}, {summary['hardware']}."
    return _table(heading, rows, numbers=True) + f'<p class="note">{escape(about)}</p>'


def _interval(statistics: Mapping[str, Any]) -> str:
    if statistics["mean"] is None:
        return "not finite"
    low, high = statistics["ci95"]
    return f"{statistics['mean']:.3g} [{low:.3g}, {high:.3g}]"


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heading)
    lines = []
    for first, *others in rows:
        kind = ' class="number"' if numbers else ""
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for cell in others)
        lines.append(f"<tr><td>{escape(first)}</td>{cells}</tr>")
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
