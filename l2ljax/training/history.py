"""A run's history, `metrics.jsonl`: appended to, cut at the last checkpoint, never rewritten.

A run that was stopped and resumed has the history of one that was left alone, byte for byte; when
its records were made is no part of that, and stands beside it in `seconds.jsonl`.
"""

import itertools
import json
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from l2ljax.storage.workdir import telling

OURS = {"meta_loss", "validation_loss", "seconds"}
"""Fields of which each record has one."""


class MetricsLog:
    """Appends records to `metrics.jsonl`, one JSON object a line, and never rewrites one.

    It holds the last few records in memory and no more, however long the run.

    Where a run starts at update 0, a file that is there already is emptied if a run that was killed
    before its first checkpoint left it: if all its whole lines are records of ours, of updates
    before that checkpoint. Any other (a foreign file, or the history of a run whose checkpoints are
    gone) is moved to the next free name, such as `metrics-1.jsonl`, with a warning.

    Args:
        path: the file; its folder must exist.
        last_update: records of later updates, left by a run that was cut off, are cut away.
        first_checkpoint: the update after which a run from 0 makes its first checkpoint.
        write: whether this process writes the file; one of several must.

    Attributes:
        recent: the last `RECENT` records appended here.
    """

    RECENT = 20

    def __init__(
        self, path: Path, last_update: int, *, first_checkpoint: int = 1, write: bool = True
    ):
        self._path, self._write = Path(path), write
        self.recent: list[dict[str, Any]] = []
        if not write:
            return
        if last_update == 0 and not _is_left_over(self._path, first_checkpoint):
            _move_aside(self._path)
        if not self._path.exists():
            self._path.touch()
        end = position = 0
        for found, line in _read_lines(self._path):
            position += len(line)
            if found is None:
                continue
            if found["update"] > last_update:
                break
            end = position
        if end < self._path.stat().st_size:
            os.truncate(self._path, end)

    def append(self, record: dict[str, Any]) -> None:
        """Writes `record` through to the file."""
        self.recent.append(record)
        del self.recent[: -self.RECENT]
        if self._write:
            with telling(f"{self._path} cannot be written"), self._path.open("a") as file:
                file.write(json.dumps(record) + "\n")


def _is_left_over(path: Path, first_checkpoint: int) -> bool:
    """Whether there is nothing but what a run from 0 records before its first checkpoint."""
    return all(
        record is not None and 0 < record["update"] < first_checkpoint and record.keys() & OURS
        for record, line in _read_lines(path)
        if line.endswith(b"\n")
    )


def _move_aside(path: Path) -> None:
    names = (path.with_name(f"{path.stem}-{n}{path.suffix}") for n in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    with telling(f"{path} cannot be moved to {aside.name}"):
        path.rename(aside)
    warnings.warn(
        f"{path} has records that are not of this run, or whose checkpoints are gone; it is kept "
        f"as {aside.name}, and the run begins a new one.",
        stacklevel=4,
    )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`; a last line that was cut off is left out.

    Any other line that is no record is left out with a warning.
    """
    records = []
    for number, (record, line) in enumerate(_read_lines(Path(path)), start=1):
        if record is not None:
            records.append(record)
        elif line.endswith(b"\n"):
            warnings.warn(
                f"Line {number} of {path} is damaged and left out of the history.", stacklevel=2
            )
    return records


def read_seconds(path: Path) -> list[tuple[int, float]]:
    """What a `seconds.jsonl` holds: meta-updates, rising, each with the seconds spent by then.

    Those are the run's own, over all resumptions. A missing file holds none; a line that is damaged
    is left out without a word.
    """
    found: list[tuple[int, float]] = []
    for record, _ in _read_lines(Path(path)):
        seconds: Any = None if record is None else record.get("seconds")
        if record is None or type(seconds) not in (int, float) or not math.isfinite(seconds):
            continue
        update, before = found[-1] if found else (0, 0.0)
        if record["update"] > update and seconds >= before:
            found.append((record["update"], float(seconds)))
    return found


def _read_lines(path: Path) -> Iterator[tuple[dict[str, Any] | None, bytes]]:
    """Lines in turn, with their records; `None` for a line that is none."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            whole = isinstance(record, dict) and isinstance(record.get("update"), int)
            yield (record if whole and line.endswith(b"\n") else None), line
