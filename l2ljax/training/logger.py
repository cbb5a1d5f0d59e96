"""Loggers of a run: where its numbers go besides the history, W&B, MLflow or Aim for example."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax

from l2ljax.checks import short


@runtime_checkable
class Logger(Protocol):
    """What `meta_train(..., logger=...)` calls, in the first process only.

    Example:
        >>> class Weave:
        ...     def __call__(self, step, numbers):
        ...         print(step, sorted(numbers))
        ...     def close(self):
        ...         print("closed")
        >>> isinstance(Weave(), Logger)
        True
    """

    def __call__(self, step: int, numbers: dict[str, float]) -> Any:
        """Takes the numbers of a record: `step` is its meta-update."""

    def close(self) -> Any:
        """Called once, when the run ends for whatever reason."""


def as_loggers(logger: Any) -> tuple[Logger, ...]:
    """None, one or a list, as a tuple.

    Raises:
        TypeError: for what is no logger.
    """
    if logger is None:
        return ()
    found = tuple(logger) if isinstance(logger, Sequence) else (logger,)
    for entry in found:
        if not callable(entry) or not callable(getattr(entry, "close", None)):
            raise TypeError(
                "logger must be a function of (step, numbers) with a method close(), or a list of "
                f"such, got {short(entry)}."
            )
    return found


def numbers_of(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The single numbers of a record, those of nested metrics under `outer/inner`.

    Example:
        >>> numbers_of({"update": 3, "meta_loss": 1.5, "norms": {"a": 2}, "losses": [1.0, None]})
        {'meta_loss': 1.5, 'norms/a': 2.0}
    """
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= numbers_of(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and prefix + name != "update":
            found[prefix + name] = float(value)
    return found


@contextlib.contextmanager
def logging_to(loggers: tuple[Logger, ...]) -> Iterator[Any]:
    """A function of a record that hands it to all; they are closed at the end."""
    mine = loggers if jax.process_index() == 0 else ()

    def log(record: Mapping[str, Any]) -> None:
        for logger in mine:
            logger(int(record["update"]), numbers_of(record))

    with contextlib.ExitStack() as stack:
        for logger in mine:
            stack.callback(logger.close)
        yield log
