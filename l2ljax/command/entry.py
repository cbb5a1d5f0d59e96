"""Where every command line begins: which command it is, and how it ends."""

import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from typing import NamedTuple

from l2ljax.base.words import hint
from l2ljax.command.arguments import UsageError
from l2ljax.command.ending import BAD_INPUT, STOPPED, one_sentence_errors


class Command(NamedTuple):
    """A command: the module whose `run(words, typed)` does it, and what it is for."""

    module: str
    summary: str


COMMANDS = {
    "train": Command("train", "meta-train what a configuration describes; resumes"),
    "evaluate": Command("evaluate", "a trained optimizer beside tuned baselines"),
    "adapt": Command("adapting", "weights, trained on for a task of one's own within minutes"),
    "report": Command("reporting", "one HTML page of one or several runs"),
    "plot": Command("plotting", "meta-training curves of runs, as a picture"),
    "board": Command("boarding", "every optimizer on every task of the suite; goes on"),
    "reproduce": Command("reproducing", "the paper's figures, and one page of them"),
    "list": Command("listing", "optimizers, rules, tasks, estimators, configs that there are"),
    "inspect": Command("inspection", "what a weights file holds, and whether it is whole"),
    "export": Command("export", "a weights file of one's own, from a bundled one or a run"),
    "init-config": Command("init_config", "print a configuration, to change it"),
}
"""What can stand behind `l2ljax`. A new command is a module here and a line in this list."""

EXAMPLES = """
  l2ljax train demo --workdir=runs/demo
  l2ljax evaluate --workdir=runs/demo
  l2ljax init-config demo > mine.py && l2ljax train mine.py --workdir=runs/mine
"""


def main(argv: Sequence[str] | None = None, program: Sequence[str] = ("l2ljax",)) -> int:
    """Runs a command line; what it has to say goes to standard output, errors to the other.

    Args:
        argv: the words behind `l2ljax`; default: those that the process was started with.
        program: what the words were typed behind, for the record in the weights.

    Returns:
        the exit code: 0, or see `l2ljax.command.ending`.

    Example:
        >>> main(["list", "estimators", "--json"])  # doctest: +ELLIPSIS
        [{"name": ...}]
        0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with one_sentence_errors():
            return _run(words, program)
    except SystemExit as end:  # argparse's --help, one_sentence_errors, and a user's own file
        return _code(end.code)
    except KeyboardInterrupt:
        return STOPPED


def _code(given: int | str | None) -> int:
    """Of a `SystemExit`, which may have a sentence in place of a number.

    Example:
        >>> _code(None), _code(3)
        (0, 3)
    """
    if given is None or isinstance(given, int):
        return given or 0
    print(given, file=sys.stderr)
    return BAD_INPUT


def _run(words: list[str], program: Sequence[str]) -> int:
    help_wanted = ("-h", "--help", "help")
    if words[:1] == ["help"] and len(words) > 1:
        words = [words[1], "--help"]
    if not words or words[0] in help_wanted:
        print(usage(), file=sys.stdout if words else sys.stderr)
        return 0 if words else BAD_INPUT
    if words[0] == "--version":
        import l2ljax

        print(f"l2ljax {l2ljax.__version__}")
        return 0
    name = words[0]
    try:
        if name not in COMMANDS:
            raise UsageError(
                f"l2ljax: there is no command {name!r}{hint(name, COMMANDS)}; there are "
                f"{', '.join(COMMANDS)}."
            )
        _find_neighbours()
        module = importlib.import_module(f"l2ljax.command.{COMMANDS[name].module}")
        shown = words[1:] if program != ("l2ljax",) else words
        code = module.run(words[1:], shlex.join([*program, *shown]))
        sys.stdout.flush()
    except UsageError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:  # `l2ljax list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def usage() -> str:
    """What `l2ljax --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: l2ljax COMMAND ...   (or: python -m l2ljax COMMAND ...)",
            "",
            "Learning optimizers by gradient descent.",
            "",
            "commands:",
            *lines,
            "",
            "`l2ljax COMMAND --help` tells its options; `l2ljax --version` the version.",
            "",
            "examples:" + EXAMPLES.rstrip(),
        ]
    )


def _find_neighbours() -> None:
    """Modules in the directory where one works are found, as `python -m` finds them."""
    if os.getcwd() not in sys.path and "" not in sys.path and not sys.flags.safe_path:
        sys.path.append(os.getcwd())


def run_script(name: str) -> None:
    """What `python scripts/SCRIPT.py ...` does: the command `name` with the script's words.

    Args:
        name: of the command, as behind `l2ljax`.

    Raises:
        SystemExit: always, with the exit code of `main`.

    Example:
        >>> run_script("train")  # doctest: +SKIP
    """
    sys.exit(main([name, *sys.argv[1:]], ("python", sys.argv[0])))
