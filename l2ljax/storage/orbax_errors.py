"""What Orbax and TensorStore raise, log and print, as one sentence each."""

import contextlib
import dataclasses
import gc
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from l2ljax.checks import shorten
from l2ljax.storage.workdir import cannot_write


class DamagedCheckpointError(ValueError):
    """A checkpoint that cannot be read, or does not hold what was written."""


@contextlib.contextmanager
def reading(where: str, part: str) -> Iterator[None]:
    """Whatever Orbax raises for a damaged file, as one sentence. Lack of memory is no damage."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:
        reason = _reason(error)
        _drop_coroutines(error)
        if files := re.findall(
            r'local file "([^"]+)"', str(error)
        ):  # TensorStore tells the culprit
            part, reason = files[-1], reason.split(":")[1].strip()
        raise DamagedCheckpointError(
            f"{where} is damaged: {part} cannot be read ({reason})"
        ) from error


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Whatever Orbax raises where it cannot write, as one sentence."""
    try:
        yield
    except Exception as error:
        _drop_coroutines(error)
        if code := re.search(r"os_error_code='(\d+)'", str(error)):  # TensorStore's
            error = OSError(int(code[1]), os.strerror(int(code[1])))
        raise cannot_write(
            f"Checkpoints cannot be written to {directory}", error, "those in it are whole"
        ) from error


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Hides the tracebacks that Orbax's threads print of errors that are raised here anyway.

    What its abandoned writes print may come at any time after, at the interpreter's end at the
    latest: that stays hidden. No other message of asyncio does.
    """

    def not_of_orbax(record: logging.LogRecord) -> bool:
        return not _is_orbax(record.pathname)

    logging.getLogger("asyncio").addFilter(_not_abandoned)  # the same filter is added only once
    if not isinstance(sys.unraisablehook, _HideLate):
        sys.unraisablehook = _HideLate(sys.unraisablehook)
    logger = logging.getLogger("absl")
    logger.addFilter(not_of_orbax)
    try:
        yield
    finally:
        logger.removeFilter(not_of_orbax)


def _is_orbax(path: str) -> bool:
    return f"{os.sep}orbax{os.sep}" in path


def _not_abandoned(record: logging.LogRecord) -> bool:
    """False for a write or read of Orbax that failed after another one, which was raised here."""
    message = record.getMessage()
    if "exception was never retrieved" not in message:
        return True
    error = record.exc_info[1] if record.exc_info else None
    frames = traceback.extract_tb(error.__traceback__) if error else []
    return not (
        _is_orbax(message)  # the place of a task's coroutine
        or any(_is_orbax(frame.filename) for frame in frames)
        or _TENSORSTORE.search(str(error))
    )


_TENSORSTORE = re.compile(r"os_error_code=|source locations='tensorstore|local file \"")
"""What TensorStore says of a file, in futures of its own, without a frame of Orbax."""


@dataclasses.dataclass(frozen=True)
class _HideLate:
    """Hides callbacks of TensorStore that find a loop closed, and coroutines left behind."""

    before: Callable[[Any], object]

    def __call__(self, unraisable: Any) -> None:
        error, code = unraisable.exc_value, getattr(unraisable.object, "cr_code", None)
        frames = traceback.extract_tb(error.__traceback__) if error else []
        # TensorStore's threads are not Python's: nobody's code is above the loop's own.
        late = str(error) == "Event loop is closed" and all(
            f"{os.sep}asyncio{os.sep}" in frame.filename for frame in frames
        )
        if not late and not (code and _is_orbax(code.co_filename)):
            self.before(unraisable)


def _drop_coroutines(error: BaseException | None) -> None:
    """Frees what the frames of `error` hold, and hides what coroutines print that never ran."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        while error is not None:
            traceback.clear_frames(error.__traceback__)
            error = error.__cause__ or error.__context__
        gc.collect()


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return shorten(f"{type(error).__name__}: {text}", 160)
