"""`l2ljax init-config`: a bundled configuration as text, to change it.

Bundled configurations start from what most experiments share; as printed, those values are written
out, so that the text shows every field and a later version's other defaults do not change it.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from l2ljax.command.arguments import Parser
from l2ljax.command.configs import config_path
from l2ljax.experiments.fields import DEFAULTS

WIDTH = 100

HELP = """\
Prints a bundled configuration with all its fields, the start of one of your own.

exit codes:
  0 done   2 no such configuration

examples:
  l2ljax init-config demo > mine.py
  l2ljax train mine.py --workdir=runs/mine
"""


def parser() -> Parser:
    """Of what stands behind `l2ljax init-config`."""
    made = Parser("l2ljax init-config", HELP)
    made.add_argument("name", metavar="NAME", help="see `l2ljax list configs`")
    return made


def run(words: Sequence[str], typed: str) -> int:
    """Runs the command; returns the exit code."""
    del typed
    sys.stdout.write(written_out(config_path(parser().read(words).name).read_text()))
    return 0


def written_out(text: str) -> str:
    """A configuration's text with the values of `DEFAULTS` where it names them.

    Example:
        >>> print(written_out('config.estimator = DEFAULTS["estimator"]'))
        config.estimator = {"name": "truncated_bptt", "coordinate_share": 1.0}
    """
    text = re.sub(r"^from l2ljax\.experiments[.\w]* import DEFAULTS\n+", "\n", text, flags=re.M)
    text = re.sub(r"^( *)(.*\()DEFAULTS\)$", r"\1\2\n\1    DEFAULTS\n\1)", text, flags=re.M)
    lines = [_line_written_out(line) for line in text.split("\n")]
    return "\n".join(lines)


def _line_written_out(line: str) -> str:
    named = re.search(r"\bDEFAULTS\b(\[\"(\w+)\"\])?", line)
    if named is None:
        return line
    value = DEFAULTS[named[2]] if named[2] else DEFAULTS
    indent = len(line) - len(line.lstrip())
    before, after = line[: named.start()], line[named.end() :]
    return before + _literal(value, indent, len(before), len(after)) + after


def _literal(value: Any, indent: int, before: int, after: int) -> str:
    """`value` as Python, on one line where that fits between so many characters."""
    if isinstance(value, Mapping):
        parts = [f"{json.dumps(key)}: " for key in value]
        flat = [part + _flat(inner) for part, inner in zip(parts, value.values(), strict=True)]
        whole = "{" + ", ".join(flat) + "}"
        if before + len(whole) + after <= WIDTH and len(value) < len(DEFAULTS):
            return whole
        inner = indent + 4
        lines = [
            " " * inner + part + _literal(of, inner, inner + len(part), 1) + ","
            for part, of in zip(parts, value.values(), strict=True)
        ]
        return "\n".join(["{", *lines, " " * indent + "}"])
    return _flat(value)


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)}: {_flat(v)}" for k, v in value.items()) + "}"
    return json.dumps(value) if isinstance(value, str) else repr(value)
