"""`l2ljax init-config`: a bundled configuration as text, to change it."""

import sys
from collections.abc import Sequence

from l2ljax.command.arguments import Parser
from l2ljax.command.configs import config_path

HELP = """\
Prints a bundled configuration, the start of one of your own.

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
    sys.stdout.write(config_path(parser().read(words).name).read_text())
    return 0
