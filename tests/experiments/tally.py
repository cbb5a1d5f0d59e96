"""What came of cases, counted: each works, or is refused in one sentence that names the culprit."""

import contextlib
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator

SECONDS = 120
"""More than any case needs."""

Case = Callable[[], str]
"""Raises, or says what came of it: "works", or another heading of the table."""


class HangError(Exception):
    """A case took too long."""


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    def stop(number, frame):
        raise HangError(f"took longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def is_sentence(message: str) -> bool:
    """One line that ends as a sentence does, of a length that can be read."""
    return message.endswith(".") and message.isprintable() and 20 <= len(message) <= 1000


class Tally:
    """Counts of outcomes, by what was tried; and the unexplained cases in words."""

    def __init__(self):
        self.counts: dict[str, Counter] = {}
        self.unexplained: list[str] = []

    def __call__(self, what: str, description: str, case: Case, culprits: list[str]) -> str:
        """Tries one case; a refusal must have one of `culprits` in its sentence."""
        try:
            with warnings.catch_warnings(), time_limit():
                warnings.simplefilter("ignore")
                outcome = case()
        except (ValueError, TypeError, OSError) as error:
            message = str(error)
            named = any(culprit in message for culprit in culprits)
            outcome = "refused" if is_sentence(message) and named else "unexplained"
            if outcome == "unexplained":
                self.unexplained.append(f"{what}, {description}: {type(error).__name__}: {message}")
        except Exception as error:
            outcome = "unexplained"
            self.unexplained.append(f"{what}, {description}: {type(error).__name__}: {error}")
        self.counts.setdefault(what, Counter())[outcome] += 1
        return outcome

    def table(self) -> str:
        headings = ["works", "went back", "refused", "unexplained"]
        lines = [f"{'':24}{'tried':>8}" + "".join(f"{name:>13}" for name in headings)]
        for what, count in self.counts.items():
            numbers = "".join(f"{count[name]:13}" for name in headings)
            lines.append(f"{what:24}{count.total():8}{numbers}")
        return "\n".join(lines)
