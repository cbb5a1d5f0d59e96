"""The plain files of a run's directory: its configuration and its history of metrics."""

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def claim(workdir: Path, config: Mapping[str, Any]) -> None:
    """Makes `workdir` with `config.json`, or checks that it was made for the same configuration.

    Raises:
        ValueError: if `workdir` holds a run with another configuration; names each field that
            differs.
    """
    path = Path(workdir) / "config.json"
    config = json.loads(json.dumps(config))  # tuples become lists, as they will in the file
    if not path.exists():
        Path(workdir).mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(config, indent=2) + "\n")
        return
    differences = _differences(read_config(workdir), config)
    if differences:
        raise ValueError(
            f"{workdir} holds a run with another configuration ({'; '.join(differences)}). "
            "Give the same configuration to resume it, or another --workdir."
        )


def read_config(workdir: Path) -> dict[str, Any]:
    """The configuration of the run in `workdir`.

    Raises:
        FileNotFoundError, ValueError: if there is none, or it is no JSON object.
    """
    path = Path(workdir) / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{workdir} holds no run: there is no {path.name} in it.")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}).") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(config).__name__}.")
    return config


@contextlib.contextmanager
def exclusive(workdir: Path) -> Iterator[None]:
    """Keeps this machine's other processes out of a claimed `workdir`; a killed one lets go of it.

    Raises:
        BlockingIOError: if another process is in it.
    """
    with (Path(workdir) / "config.json").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                f"Another process is working in {workdir}; wait until it has ended, or give "
                "another --workdir."
            ) from error
        yield


class MetricsLog:
    """Appends records to `metrics.jsonl`, one JSON object a line, and never rewrites one.

    It holds the last few records in memory and no more, however long the run.

    Args:
        path: the file; its folder must exist.
        last_update: records of later updates, left by a run that was cut off, are cut away.
        write: whether this process writes the file; one of several must.

    Attributes:
        recent: the last `RECENT` records appended here.
    """

    RECENT = 20

    def __init__(self, path: Path, last_update: int, *, write: bool = True):
        self._path, self._write = Path(path), write
        self.recent: list[dict[str, Any]] = []
        if write:
            if not self._path.exists():
                self._path.touch()
            end = sum(size for _, size in _read_lines(self._path, last_update))
            if end < self._path.stat().st_size:
                os.truncate(self._path, end)

    def append(self, record: dict[str, Any]) -> None:
        """Writes `record` through to the file."""
        self.recent.append(record)
        del self.recent[: -self.RECENT]
        if not self._write:
            return
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`; a last line that was cut off is left out."""
    return [record for record, _ in _read_lines(Path(path))] if Path(path).exists() else []


def _read_lines(path: Path, last_update: float = math.inf) -> Iterator[tuple[dict[str, Any], int]]:
    """Records in turn and the bytes of their lines, up to one that is later or cut off."""
    with path.open("rb") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                return
            whole = isinstance(record, dict) and "update" in record and line.endswith(b"\n")
            if not whole or record["update"] > last_update:
                return
            yield record, len(line)


def write_atomically(path: Path, text: str) -> None:
    """Replaces `path` by `text` in one step, so that a failure leaves the old file whole."""
    temporary = Path(path).with_name(f".{Path(path).name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        prefix = f"{name}." if name else ""
        return [
            line
            for field in {**old, **new}
            for line in _differences(
                old.get(field, "(unset)"), new.get(field, "(unset)"), prefix + field
            )
        ]
    return [] if old == new else [f"{name} is {old!r} there, {new!r} here"]
