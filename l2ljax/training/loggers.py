"""Loggers: where a run's records go besides its own history."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from l2ljax.checks import short


@runtime_checkable
class Logger(Protocol):
    """Anything with these two methods; see `meta_train`.

    Example:
        >>> class Kept:
        ...     def __init__(self):
        ...         self.records = {}
        ...     def log(self, step, values):
        ...         self.records[step] = values
        ...     def close(self):
        ...         pass
        >>> isinstance(Kept(), Logger)
        True
    """

    def log(self, step: int, values: dict[str, float]) -> None:
        """Takes the numbers of one record, by name, at a meta-update."""
        ...

    def close(self) -> None:
        """Called once when the run ends, however it ends."""
        ...


class TensorBoardLogger:
    """Writes events that TensorBoard shows; needs no TensorFlow.

    Args:
        folder: of the event files.

    Raises:
        ModuleNotFoundError: without tensorboardX, saying how to install it.

    Example:
        >>> logger = TensorBoardLogger("runs/demo")  # doctest: +SKIP
        >>> logger.log(100, {"meta_loss": 0.5})  # doctest: +SKIP
        >>> logger.close()  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path):
        try:
            from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "TensorBoardLogger needs tensorboardX, which is not installed; run: "
                'pip install "l2ljax[logging]"'
            ) from error
        self._writer = SummaryWriter(str(folder))

    def log(self, step: int, values: dict[str, float]) -> None:
        """Adds a scalar for each name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()


def as_loggers(logger: Any) -> list[Logger]:
    """None, one or several loggers as a list.

    Raises:
        TypeError: for what lacks `log` or `close`.
    """
    found = [] if logger is None else list(logger) if isinstance(logger, Sequence) else [logger]
    for one in found:
        if not all(callable(getattr(one, name, None)) for name in ("log", "close")):
            raise TypeError(
                "logger must have the methods log(step, values) and close(), or be a list of "
                f"such, got {short(one)}."
            )
    return found


def numbers(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The single numbers in a record, nested ones by their path; lists and nulls are left out.

    Example:
        >>> numbers({"update": 2, "meta_loss": 0.5, "norms": {"a": 1, "b": None}, "losses": [1.0]})
        {'meta_loss': 0.5, 'norms/a': 1.0}
    """
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and prefix + name != "update":
            found[prefix + name] = float(value)
    return found


@contextlib.contextmanager
def logging_to(loggers: Sequence[Logger]) -> Iterator[Any]:
    """A function of a record that hands it to all; they are closed at the end.

    One that fails is told of once, in a warning, and not called again but to be closed.
    """
    live = list(loggers)

    def log(record: Mapping[str, Any]) -> None:
        for one in list(live):
            try:
                one.log(record["update"], numbers(record))
            except Exception as error:
                live.remove(one)
                _warn(one, "failed and gets no more records", error)

    try:
        yield log
    finally:
        for one in loggers:
            try:
                one.close()
            except Exception as error:
                if one in live:
                    _warn(one, "could not be closed", error)


def _warn(logger: Any, what: str, error: Exception) -> None:
    kind = type(error).__name__
    warnings.warn(f"The logger {type(logger).__name__} {what}: {kind}: {error}", stacklevel=3)
