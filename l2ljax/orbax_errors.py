"""What Orbax and TensorStore raise, log and print, as one sentence each."""

import contextlib
import gc
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import jax

from l2ljax.checks import shorten
from l2ljax.workdir import cannot_write


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
    """Hides the tracebacks that Orbax's threads print of errors that are raised here anyway."""

    def of_orbax(path: str) -> bool:
        return f"{os.sep}orbax{os.sep}" in path

    def not_of_orbax(record: logging.LogRecord) -> bool:
        return not of_orbax(record.pathname)

    def retrieved(record: logging.LogRecord) -> bool:
        # Of several writes that fail, the first is raised here and asyncio tells of the others.
        return "exception was never retrieved" not in record.getMessage()

    def hook(unraisable):
        # Writes that end after another has failed find their event loop closed; reads, likewise,
        # leave coroutines behind.
        code = getattr(unraisable.object, "cr_code", None)
        late = str(unraisable.exc_value) == "Event loop is closed"
        if not late and not (code and of_orbax(code.co_filename)):
            hook_before(unraisable)

    logger, hook_before = logging.getLogger("absl"), sys.unraisablehook
    loops = logging.getLogger("asyncio")
    logger.addFilter(not_of_orbax)
    loops.addFilter(retrieved)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        logger.removeFilter(not_of_orbax)
        loops.removeFilter(retrieved)
        sys.unraisablehook = hook_before


def _drop_coroutines(error: BaseException | None) -> None:
    """Frees what the frames of `error` hold, while `quiet_orbax` still hides what that prints."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return shorten(f"{type(error).__name__}: {text}", 160)
