"""Parsers of the commands: errors as sentences, hints for what was mistyped, kinds of values."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from l2ljax.base.words import hint


class UsageError(ValueError):
    """Words of a command line that the command does not take.

    Example:
        >>> try:
        ...     Parser("l2ljax list", "Names of what there is.").read(["tasks"])
        ... except UsageError as error:
        ...     print(error)
        l2ljax list: 'tasks' is one word too many. `l2ljax list --help` says more.
    """


class Parser(argparse.ArgumentParser):
    """One command's: it raises where argparse would print its usage and leave."""

    def __init__(self, prog: str, text: str):
        summary, _, rest = text.partition("\n")
        super().__init__(
            prog,
            description=summary,
            epilog=rest.strip("\n"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message.rstrip('.')}. `{self.prog} --help` says more.")

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """The arguments; `--data-dir` is understood as `--data_dir`.

        Raises:
            UsageError: for words that are not taken, with what was probably meant.
        """
        words = [_with_underscores(word) for word in words]
        there = self._option_string_actions
        for flag in (word.partition("=")[0] for word in words if word[:2] == "--"):
            if flag not in there:
                self.error(f"there is no {flag!r} here{hint(flag, there)}")
        found, unknown = self.parse_known_args(words)
        if unknown:
            self.error(f"{unknown[0]!r} is one word too many")
        return found


def _with_underscores(word: str) -> str:
    name, given, value = word.partition("=")
    return name[:2] + name[2:].replace("-", "_") + given + value if word[:2] == "--" else word


def integer(minimum: int) -> Callable[[str], int]:
    """A kind of argument: an integer from `minimum` on.

    Example:
        >>> integer(1)("3")
        3
    """

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < minimum:
            raise argparse.ArgumentTypeError(
                f"expected an integer of at least {minimum}, got {text!r}"
            )
        return number

    return convert


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """`--quiet`."""
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def sayer(quiet: bool) -> Callable[..., None]:
    """`print`, or nothing where it is to be quiet."""

    def say(*words: Any) -> None:
        if not quiet:
            print(*words)

    return say
