"""The page of one or several runs, from what their directories hold."""

import contextlib
import json
import platform
import shlex
from collections.abc import Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from l2ljax.evaluation.page import (
    Figure,
    block,
    code,
    data,
    definitions,
    details,
    frame,
    html_table,
    number,
    scripts,
)
from l2ljax.experiments.machine import versions
from l2ljax.experiments.run_report.evaluation_figures import evaluations
from l2ljax.experiments.run_report.groups import Group, grouped
from l2ljax.experiments.run_report.rule import Behaviour, behaviours
from l2ljax.experiments.run_report.rule_figures import compared_responses, rule_figures
from l2ljax.experiments.run_report.runs import Run, read_runs
from l2ljax.experiments.run_report.training_figures import training_figures
from l2ljax.storage.workdir import make_directory, write_atomically


def write_report(workdirs: Sequence[str | Path], out: str | Path, *, command: str = "") -> Path:
    """Writes one HTML file about runs of meta-training, which needs no other file and no network.

    Args:
        workdirs: directories of runs, finished or not; those whose configurations differ in the
            seed only are summed up by their median.
        out: the file; it is whole or not there.
        command: what was typed to make it, for the page.

    Returns:
        `out`.

    Raises:
        ValueError, FileNotFoundError: for a directory that holds no run or no history, the same one
            twice, and damaged files; in one sentence.
        ModuleNotFoundError: without plotly, saying how to install it.
        OSError: if the file cannot be written.
    """
    out = Path(out)
    if out.suffix not in (".html", ".htm"):
        raise ValueError(f"A report's file must end in .html, got {str(out)!r}.")
    runs = read_runs(workdirs)
    page = report_page(runs, scripts(), command)
    make_directory(out.parent)
    write_atomically(out, page)
    return out


def report_page(runs: Sequence[Run], scripts_of_figures: Sequence[str], command: str = "") -> str:
    """The page's HTML; see `write_report`."""
    groups = grouped(runs)
    figures: list[Figure] = []

    def shown(found: Sequence[Figure]) -> str:
        figures.extend(found)
        return "\n".join(figure.html() for figure in found)

    training = shown(training_figures(groups))
    evaluation = []
    for beside in evaluations(groups):
        evaluation.append(shown([beside.figure]))
        evaluation.append(
            html_table(beside.heading, beside.rows, "numbers", beside.figure.title + ": ends")
        )
        evaluation += [f'<p class="warning">{escape(doubt)}</p>' for doubt in beside.doubts]
    missing = [run for run in runs if run.evaluation is None]
    evaluation += [_not_evaluated(run) for run in missing]
    body = [
        f"<p>{_lead(runs, groups)}</p>",
        "<noscript><p>The figures need JavaScript; the tables hold their numbers.</p></noscript>",
        html_table(*_overview(runs), "cards", "The runs"),
        "<h2>Meta-training</h2>",
        training,
        "<h2>Evaluation beside baselines</h2>",
        *evaluation,
        "<h2>The learned update rule</h2>",
        *_rules(groups, shown),
        "<h2>Configuration</h2>",
        *map(_configuration, runs),
        "<h2>Environment</h2>",
        html_table(*_environment(runs), "cards", "Where the runs ran"),
        _this_page(),
        "<h2>Commands</h2>",
        *map(_commands, runs),
        f"<p>This page: {code(command)}</p>" if command else "",
        data([figure.spec() for figure in figures], "figures"),
    ]
    title = f"Meta-training: {', '.join(run.name for run in runs[:4])}"
    title += f" and {len(runs) - 4} more" if len(runs) > 4 else ""
    return frame(title, body, scripts_of_figures)


def _lead(runs: Sequence[Run], groups: Sequence[Group]) -> str:
    """What there is on the page, and how to use it."""
    many = "One run" if len(runs) == 1 else f"{len(runs)} runs"
    seeds = [group for group in groups if group.several]
    summed = " Runs that differ in the seed only are summed up by their median." if seeds else ""
    tasks = {_name(run, "task") for run in runs}
    whole = {json.dumps((run.config or {}).get("task"), sort_keys=True) for run in runs}
    which = ", ".join(sorted(tasks)) + (", with other arguments" if len(tasks) == 1 else "")
    apart = (
        f" They were trained on different tasks ({which}), whose losses cannot be compared."
        if len(whole) > 1
        else ""
    )
    return escape(
        f"{many} of meta-training with l2ljax.{summed}{apart} Names above a figure switch its "
        "curves; dragging zooms, a double click goes back."
    )


def _name(run: Run, part: str) -> str:
    found = (run.config or {}).get(part)
    name = found.get("name") if isinstance(found, dict) else None
    return str(name) if name else "made in code"


def _overview(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    heading = ["run", "task", "optimizer", "estimator", "seed", "meta-updates", "best validation"]
    heading += ["time", "not finite"]
    return heading, [_row(run) for run in runs]


def _row(run: Run) -> list[str]:
    last, card = run.records[-1]["update"], run.card
    asked = (run.config or {}).get("num_meta_updates")
    best, seconds = card.get("validation_loss"), card.get("seconds")
    counts = next((r for r in reversed(run.records) if "skipped" in r), {})
    faults = [f"{counts[n]} {n}" for n in ("skipped", "diverged", "restores") if counts.get(n)]
    return [
        run.name,
        _name(run, "task"),
        _name(run, "optimizer"),
        _name(run, "estimator"),
        str((run.config or {}).get("seed", "")),
        f"{last:,}" if card.get("finished") or not asked else f"{last:,} of {asked:,}, unfinished",
        f"{number(best)} after {card.get('best_update')}" if isinstance(best, float) else "",
        f"{seconds:,.0f} s" if isinstance(seconds, int | float) else "",
        ", ".join(faults) or "none",
    ]


def _not_evaluated(run: Run) -> str:
    if run.config is None:  # `l2ljax evaluate` needs to know the task
        return f'<p class="note">{escape(run.name)} was not evaluated.</p>'
    return (
        f'<p class="note">{escape(run.name)} was not evaluated; {code(_evaluate(run))} does it.</p>'
    )


def _rules(groups: Sequence[Group], shown) -> list[str]:
    """The first run's rule of each group in full, all of them side by side without history."""
    parts, first_rules = [], {}
    runs = [run for group in groups for run in group.runs]
    for index, run in enumerate(runs):
        if run.optimizer is None:
            parts.append(f'<p class="warning">{escape(run.name)}: {escape(run.why_none)}</p>')
            continue
        found, failed = behaviours(run.optimizer, run.meta_params)
        parts += [f'<p class="warning">{escape(f"{run.name}: {line}")}</p>' for line in failed]
        first_rules |= {_named(run, rule): rule for rule in found}
        if any(group.runs[0] is run for group in groups):
            whose = run.name if len(runs) > 1 else ""
            parts.append(shown(rule_figures(whose, found, f"{index}")))
    if len(runs) > 1 and first_rules:
        parts.insert(0, shown([compared_responses(first_rules)]))
    return parts


def _named(run: Run, rule: Behaviour) -> str:
    return f"{run.name}: {rule.label}" if rule.label else run.name


def _configuration(run: Run) -> str:
    if run.config is None:
        return f'<p class="note">{escape(run.name)} was started in code: no config.json.</p>'
    text = json.dumps(run.config, indent=2)
    return details(f"config.json of {run.name}", block(text, f"Configuration of {run.name}"))


def _environment(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    def row(run: Run) -> list[str]:
        known = run.card.get("versions") or {}
        libraries = ", ".join(f"{name} {of}" for name, of in known.items())
        where = str(run.workdir.resolve())
        hardware = str(run.card.get("hardware", "not recorded"))
        return [run.name, where, hardware, libraries or "not recorded"]

    return ["run", "directory", "hardware", "versions"], [row(run) for run in runs]


def _this_page() -> str:
    here = {"Python": platform.python_version(), **versions()}
    with contextlib.suppress(PackageNotFoundError):
        here["plotly"] = version("plotly")
    text = ", ".join(f"{name} {of}" for name, of in here.items())
    return definitions([("This page", escape(f"made with {text}"))])


def _commands(run: Run) -> str:
    train = run.card.get("command")
    if not train and run.config is not None:
        train = shlex.join(["l2ljax", "train", "CONFIG", f"--workdir={run.workdir}"])
    lines = [train or "# started in code"]
    if run.config is not None:
        lines.append(_evaluate(run))
    again = (
        ""
        if run.card.get("command") or run.config is None
        else " The one that was typed is known when it is done."
    )
    return (
        f'<p class="note">To repeat {escape(run.name)} in an empty directory:{again}</p>'
        + block("\n".join(lines), f"Commands of {run.name}")
    )


def _evaluate(run: Run) -> str:
    return shlex.join(["l2ljax", "evaluate", f"--workdir={run.workdir}"])
