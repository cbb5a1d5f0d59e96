"""A run's directory: whose it is, who works in it, and files that are written whole or not."""

import contextlib
import errno
import json
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from l2ljax.checks import short, shorten

WEIGHTS = ("meta_params.safetensors", "adapted.safetensors")
"""What `l2ljax train` and `l2ljax adapt` leave when they are done."""


def claim(workdir: Path, config: Mapping[str, Any], defaults: Mapping | None = None) -> None:
    """Makes `workdir` with `config.json`, or checks that it was made for the same configuration.

    Args:
        workdir: of a run.
        config: JSON values by name.
        defaults: what fields that are left out stand for: a run begun before there were such
            fields has the same configuration.

    Raises:
        ValueError: if `workdir` holds a run with another configuration; names each field that
            differs.
        OSError: if it cannot be made or written.

    Example:
        >>> import tempfile
        >>> workdir = Path(tempfile.mkdtemp())
        >>> claim(workdir, {"seed": 0, "num_tasks": 4})
        >>> claim(workdir, {"seed": 0, "num_tasks": 4})
        >>> try:
        ...     claim(workdir, {"seed": 1, "num_tasks": 4})
        ... except ValueError as error:
        ...     print("seed is 0 there, 1 here" in str(error))
        True
    """
    path = Path(workdir) / "config.json"
    config = json.loads(json.dumps(config))  # tuples become lists, as they will in the file
    if not path.exists():
        make_directory(Path(workdir))
        if create_atomically(path, json.dumps(config, indent=2) + "\n"):
            return  # else another process was first, whose configuration counts
    unset: dict[str, Any] = json.loads(json.dumps(defaults or {}))
    if found := list(_differences({**unset, **read_config(workdir)}, {**unset, **config})):
        named = shorten("; ".join(found), 400)
        raise ValueError(
            f"{workdir} holds a run with another configuration (config.json: {named}); "
            "give the same configuration to resume it, or another --workdir."
        )


def finished_weights(workdir: Path) -> Path | None:
    """The weights that a finished run or adaptation left in a directory, if it did.

    Example:
        >>> import tempfile
        >>> workdir = Path(tempfile.mkdtemp())
        >>> print(finished_weights(workdir))
        None
        >>> _ = (workdir / "adapted.safetensors").write_bytes(b"")
        >>> finished_weights(workdir).name
        'adapted.safetensors'
    """
    return next((workdir / name for name in WEIGHTS if (workdir / name).exists()), None)


def read_config(workdir: Path) -> dict[str, Any]:
    """The configuration of the run in a directory.

    Args:
        workdir: of the run.

    Returns:
        JSON values by name.

    Raises:
        FileNotFoundError: if there is no `config.json`.
        ValueError: if it is no JSON object.

    Example:
        >>> import tempfile
        >>> workdir = Path(tempfile.mkdtemp())
        >>> claim(workdir, {"hidden_sizes": (20, 20)})
        >>> read_config(workdir)
        {'hidden_sizes': [20, 20]}
    """
    path = Path(workdir) / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{workdir} holds no run: there is no {path.name} in it.")
    try:
        config = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({shorten(str(error), 200)}).") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(config).__name__}.")
    return config


@contextlib.contextmanager
def exclusive(workdir: Path) -> Iterator[None]:
    """Keeps other processes out of `workdir`; a killed one lets go of it.

    On a file system that knows no locks the run goes on, with a warning. So it does, silently,
    where no lock can be made as nothing can be written: what has to be written will tell.

    Args:
        workdir: made if it is not there.

    Yields:
        nothing; the lock is held inside the `with` block.

    Raises:
        BlockingIOError: if another process is in it.

    Example:
        >>> import tempfile
        >>> workdir = Path(tempfile.mkdtemp())
        >>> with exclusive(workdir):
        ...     try:
        ...         exclusive(workdir).__enter__()
        ...     except BlockingIOError:
        ...         print("taken")
        taken
    """
    import filelock  # where there is no fcntl, importing it warns

    make_directory(Path(workdir) / "checkpoints")
    lock = filelock.FileLock(Path(workdir) / "checkpoints" / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise BlockingIOError(
            f"Another process is working in {workdir}; wait until it has ended, or give "
            "another workdir."
        ) from error
    except OSError as error:
        if error.errno in _NO_LOCKS:
            warnings.warn(
                f"The file system of {workdir} has no locks ({os.strerror(error.errno)}); take "
                "care that no other process works there.",
                stacklevel=3,
            )
    try:
        yield
    finally:
        lock.release()


_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces `path` in one step.

    Args:
        path: a file, in a directory that is there.
        content: bytes, or text that is written as UTF-8.

    Raises:
        OSError: telling why it cannot be written; the old file stays whole.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
        >>> write_atomically(path, "old")
        >>> write_atomically(path, "new")
        >>> path.read_text(), [other.name for other in path.parent.iterdir()]
        ('new', ['notes.txt'])
    """
    with telling(f"{path} cannot be written"), _beside(path, content) as temporary:
        os.replace(temporary, path)


def create_atomically(path: Path, content: str | bytes) -> bool:
    """Makes `path` in one step, unless it is there: of several processes one succeeds.

    On a file system without links a file that appears meanwhile is replaced.

    Args:
        path: a file, in a directory that is there.
        content: bytes, or text that is written as UTF-8.

    Returns:
        whether it has been made.

    Raises:
        OSError: telling why it cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
        >>> create_atomically(path, "mine"), create_atomically(path, "yours"), path.read_text()
        (True, False, 'mine')
    """
    with telling(f"{path} cannot be written"), _beside(path, content) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except (OSError, AttributeError):  # no links here
            if path.exists():
                return False
            os.replace(temporary, path)
    return True


@contextlib.contextmanager
def _beside(path: Path, content: str | bytes) -> Iterator[Path]:
    """A whole file beside `path`, for the time of the `with` block."""
    content = content.encode() if isinstance(content, str) else content
    name = f".{Path(path).name}.{os.getpid()}.{threading.get_ident()}.tmp"
    temporary = Path(path).with_name(name)
    try:
        temporary.write_bytes(content)
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_writable(directory: Path) -> None:
    """Refuses, before hours of work, a directory that cannot be made or written; makes nothing.

    Raises:
        OSError: naming what is in the way.

    Example:
        >>> import tempfile
        >>> check_writable(Path(tempfile.mkdtemp()) / "not" / "there" / "yet")
    """
    path = Path(directory).absolute()
    there = next(place for place in (path, *path.parents) if place.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return
    why = "is a file" if not there.is_dir() else "may not be written by this user"
    raise OSError(
        f"Nothing can be written to {directory}, as {there} {why}; give another directory."
    )


def make_directory(directory: Path) -> None:
    """Makes `directory` where it is not there yet; an OSError tells why it cannot be made."""
    with telling(f"The directory {directory} cannot be made"):
        directory.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def telling(what: str, *more: str) -> Iterator[None]:
    """Has an OSError say in one sentence what failed, why, and what to do; its kind stays."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else f"{error}"
        advice = (*more, "make room or give a directory that can be written, and start again")
        told = type(error)(f"{what} ({reason}); {'; '.join(advice)}.")
        told.errno = error.errno
        raise told from error


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for field in {**old, **new}:
            there, here = (given.get(field, "(unset)") for given in (old, new))
            yield from _differences(there, here, f"{name}.{field}" if name else field)
    elif old != new:
        yield f"{name} is {short(old)} there, {short(new)} here"
