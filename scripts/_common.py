"""What the scripts with flags of their own share: bad flags end with one sentence, too."""

from collections.abc import Callable

from absl import app

from l2ljax.command.ending import one_sentence_errors
from l2ljax.command.process import set_up

__all__ = ["one_sentence_errors", "run", "set_up"]


def run(main: Callable[[list[str]], None]) -> None:
    """`absl.app.run`, where bad flags end with one sentence."""
    app.run(main, flags_parser=_parse_flags)


def _parse_flags(argv: list[str]) -> list[str]:
    with one_sentence_errors():
        return app.parse_flags_with_usage(argv)
