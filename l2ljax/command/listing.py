"""`l2ljax list`: what there is, by name. Nothing is built and nothing compiled."""

import ast
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from l2ljax.base.words import hint
from l2ljax.bundled import pretrained_names, read_sealed, weights_path
from l2ljax.bundled.ready import WHERE_THEY_FAIL, trained_on, trained_steps
from l2ljax.command.arguments import Parser, add_json
from l2ljax.command.configs import config_names, config_path

HELP = """\
Lists optimizers that are trained and bundled, the rules they follow, tasks, estimators, configs.

Names of `optimizers` are what pretrained(), `inspect`, `export` and --config.initial take; names of
`rules`, `tasks` and `estimators` what a configuration takes; names of `configs` what `train` and
`init-config` take.

examples:
  l2ljax list
  l2ljax list optimizers
  l2ljax list configs --json
"""


def optimizers() -> list[dict[str, Any]]:
    """One dict each: `name`, `rule`, `trained_on`, `steps`, `weights` (numbers), `about`."""
    found = []
    for name in pretrained_names():
        metadata, tensors = read_sealed(weights_path(name))
        task = trained_on(metadata)
        fails = metadata.get("fails", WHERE_THEY_FAIL.get(name))
        found.append(
            {
                "name": name,
                "rule": metadata["optimizer"]["name"],
                "trained_on": task,
                "steps": trained_steps(metadata),
                "weights": sum(tensor.size for tensor in tensors.values()),
                "about": f"trained on {task}" + (f"; fails: {fails}" if fails else ""),
            }
        )
    return found


def _builders(builders: Mapping[str, Callable[..., Any]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "about": _first_line(inspect.getdoc(builder))}
        for name, builder in sorted(builders.items())
    ]


def _rules() -> list[dict[str, Any]]:
    from l2ljax.optimizers import BUILDERS

    return _builders(BUILDERS)


def _tasks() -> list[dict[str, Any]]:
    from l2ljax.tasks import BUILDERS

    return _builders(BUILDERS)


def _estimators() -> list[dict[str, Any]]:
    from l2ljax.estimators import BUILDERS

    return _builders(BUILDERS)


def configs() -> list[dict[str, Any]]:
    """One dict each, `name` and `about`; their files are read and not run."""
    return [
        {"name": name, "about": _first_line(ast.get_docstring(ast.parse(path.read_text())))}
        for name, path in ((name, config_path(name)) for name in config_names())
    ]


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]


SECTIONS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "optimizers": optimizers,
    "rules": _rules,
    "tasks": _tasks,
    "estimators": _estimators,
    "configs": configs,
}


def parser() -> Parser:
    """Of what stands behind `l2ljax list`."""
    made = Parser("l2ljax list", HELP)
    made.add_argument("section", nargs="?", metavar="SECTION", help=f"{', '.join(SECTIONS)}")
    add_json(made)
    return made


def run(words: Sequence[str], typed: str) -> int:
    """Runs the command; returns the exit code."""
    del typed
    of = parser()
    arguments = of.read(words)
    section = arguments.section
    if section is not None and section not in SECTIONS:
        of.error(
            f"there is no list of {section!r}{hint(section, SECTIONS)}; there are "
            f"{', '.join(SECTIONS)}"
        )
    found = {name: rows() for name, rows in SECTIONS.items() if section in (None, name)}
    if arguments.json:
        print(json.dumps(found if section is None else found[section]))
    else:
        print("\n\n".join(f"{name}:\n{_table(rows)}" for name, rows in found.items()))
    return 0


def _table(rows: Iterable[Mapping[str, Any]]) -> str:
    rows = list(rows)
    width = max((len(row["name"]) for row in rows), default=0)
    return "\n".join(f"  {row['name']:<{width}}  {row['about']}".rstrip() for row in rows)
