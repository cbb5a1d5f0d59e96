"""One self-contained HTML page of all figures: pictures, numbers, commands and deviations."""

import base64
import json
import re
import struct
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from l2ljax.bundled import load_optimizer, weights_path
from l2ljax.evaluation.report import LABELS
from l2ljax.paper.deviations import fill

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: auto;
  padding: 1rem }
h1 { font-size: 1.7rem; line-height: 1.25 }
h2 { margin-top: 3rem; font-size: 1.3rem; line-height: 1.3 }
img { display: block; max-width: 100%; height: auto }
.wide { overflow-x: auto; margin: 0.8rem 0 }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: 0.25rem 0.8rem 0.25rem 0; border-bottom: 1px solid #ddd;
  vertical-align: top }
.cards td:last-child { min-width: 15rem }
.word { display: inline-block; max-width: 100% }
.numbers th + th, .numbers td + td { text-align: right; white-space: nowrap }
code { overflow-wrap: anywhere; font-size: 0.88em; background: #f4f4f4; padding: 0.05em 0.25em }
nav ul { columns: 18rem; padding-left: 1.2rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1rem; color: #444;
  font-size: 0.9rem; margin: 0.8rem 0 }
dt { font-weight: 600 } dd { margin: 0; min-width: 0 }
.note { color: #555; font-size: 0.9rem }
.warning { background: #fff3cd; padding: 0.4rem 0.7rem }
@media (max-width: 44rem) {
  .wide img.large { max-width: none; width: 42rem }
  dl { grid-template-columns: 1fr; gap: 0 } dd { margin-bottom: 0.5rem }
  .cards thead { display: none }
  .cards tr { display: block; border-bottom: 2px solid #bbb; padding: 0.5rem 0 }
  .cards td { display: block; border: 0; padding: 0.1rem 0 }
  .cards td:first-child { font-weight: 600; font-size: 1rem }
  .cards td:empty { display: none }
  .cards td + td::before { content: attr(data-of) ": "; color: #666 }
}
"""

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
            evaluations.

    Returns:
        HTML that needs no other file and no network.
    """
    made = [name for name in figures if list((directory / name).glob("*.png"))]
    missing = [name for name in figures if name not in made]
    links = {name: figures[name]["title"] for name in made}
    links["deviations"] = "Where paper, released code and this project differ"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>l2ljax: the figures</title><style>{STYLE}</style></head><body>",
        "<h1>Learning to learn by gradient descent by gradient descent: the figures</h1>",
        f"<p>{INTRODUCTION}</p>",
        f'<p class="note">Not made yet: {escape(", ".join(missing))}.</p>' if missing else "",
        "<nav><ul>",
        *(f'<li><a href="#{escape(n)}">{escape(title)}</a></li>' for n, title in links.items()),
        "</ul></nav>",
        *(_section(name, figures[name], directory / name) for name in made),
        f'<h2 id="deviations">{links["deviations"]}</h2>',
        _deviations(deviations, measured),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _section(name: str, figure: Mapping[str, Any], directory: Path) -> str:
    summary, made = _read(directory / "summary.json"), _read(directory / "made.json")
    parts = [f'<h2 id="{escape(name)}">{escape(figure["title"])}</h2>']
    if made.get("quick"):
        parts.append('<p class="warning">A smoke run: its numbers mean nothing.</p>')
    if "note" in figure:
        parts.append(f"<p>{escape(figure['note'])}</p>")
    parts += [_picture(path, figure["title"]) for path in sorted(directory.glob("*.png"))]
    if summary:
        parts.append(_numbers(summary))
    about = [("Paper", f"section {escape(figure['section'])}")]
    about.append(("Command", _code(f"python scripts/reproduce.py --figure={name}")))
    if evaluation := _evaluation(directory, made):
        about.append(("Evaluation", evaluation))
    if "weights" in figure:
        beside = figure.get("evaluation", {}).get("beside", {})
        shown = dict.fromkeys((figure["weights"], *beside.values()))
        about += [("Weights", _training(weights)) for weights in shown]
    parts.append(_list(about))
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
        f"{_code(weights)}: {config['num_meta_updates']:,} meta-updates in "
        f"{metadata['seconds'] / 60:.0f} minutes on {escape(metadata['hardware'])}, seed "
        f"{config['seed']}, best after {metadata['best_update']:,}; {_code(metadata['command'])}"
    )


def _numbers(summary: Mapping[str, Any]) -> str:
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
    return _table(heading, rows, "numbers")


def _above(differences: Mapping[str, Any] | None) -> str:
    """The least noisy of the differences at the last step; none of the first to itself."""
    if differences is None:
        return ""
    return _interval(differences.get("expected_loss", differences["final_loss"]))


def _deviations(rows: Sequence[Sequence[str]], measured: Path) -> str:
    found = _read(measured / "deviations.json")
    summaries = {p.parent.name: _read(p) for p in measured.parent.glob("*/summary.json")}
    command = _list([("Command", _code("python benchmarks/quality/deviations.py"))])
    if not found:
        nothing = {"optimizers": {}, "runs": {}}
        return _table(DEVIATION_COLUMNS, fill(rows, nothing, summaries), "cards") + command
    how = f"{found['num_tasks']} fresh optimizees, seed {found['seed']}, {found['hardware']}."
    parts = [
        f"<p>{escape(found['about'])} {escape(how)}</p>",
        _picture(measured / "deviations.png", "Deviations"),
        _table(DEVIATION_COLUMNS, fill(rows, found, summaries), "cards"),
        command,
        "<details><summary>The meta-training of each</summary>",
        _list(
            (escape(run["title"]), f"{run['seconds'] / 60:.0f} minutes; {_code(run['command'])}")
            for run in found["runs"].values()
        ),
        "</details>",
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


def _picture(path: Path, title: str) -> str:
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])  # a PNG's header
    data = base64.b64encode(content).decode()
    alt = escape(f"{title}: the numbers are in the table, if there is one")
    size = f'width="{width}" height="{height}"'
    kind = ' class="large"' if width > LARGE else ""  # to be moved sideways on a phone
    return (
        f'<div class="wide"><img{kind} alt="{alt}" {size} src="data:image/png;base64,{data}"></div>'
    )


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]], kind: str) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heading)
    lines = [
        "".join(
            f'<td data-of="{escape(of)}">{_whole_flags(cell)}</td>'
            for of, cell in zip(heading, row, strict=True)
        )
        for row in rows
    ]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _list(entries: Any) -> str:
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{text}</dd>' for name, text in entries)}</dl>"


def _code(text: str) -> str:
    return f"<code>{_whole_flags(text)}</code>"


def _whole_flags(text: str) -> str:
    """Escaped, with flags that lines are not broken in where there is room for them."""
    return re.sub(r"\(?--[^\s);]+", r'<span class="word">\g<0></span>', escape(text))


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
