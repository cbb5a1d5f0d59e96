"""The history of a run: appended to, cut at the last checkpoint, never rewritten."""

import json
import os
import shutil

import pytest
from test_loggers import train

from l2ljax.training.history import MetricsLog, read_metrics

RECORDS = [{"update": n, "meta_loss": n / 8} for n in range(1, 101)]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 0)
    for record in RECORDS:
        log.append(record)
    return path


def test_what_is_appended_is_read(path):
    """One line a record, in order; and a missing file has none."""
    assert read_metrics(path) == RECORDS
    assert path.read_bytes().count(b"\n") == len(RECORDS)
    assert read_metrics(path.with_name("other.jsonl")) == []


def test_only_the_last_records_stay_in_memory(tmp_path):
    """As many after a hundred records as after twenty."""
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    for record in RECORDS:
        log.append(record)
    assert log.recent == RECORDS[-MetricsLog.RECENT :]


@pytest.mark.parametrize(
    "tail", [b"", b'{"upd', b'{"update": 101', b'{"update": 60}', b"7\n", b"\xff\n"]
)
def test_later_records_and_a_cut_line_are_cut_away(path, tail):
    """At update 60 of 100: the first 60 lines keep their bytes, and the file its inode."""
    with path.open("ab") as file:
        file.write(tail)
    before, inode = path.read_bytes(), path.stat().st_ino
    assert read_metrics(path) == RECORDS
    MetricsLog(path, 60)
    assert path.read_bytes() == b"".join(before.splitlines(keepends=True)[:60])
    assert path.stat().st_ino == inode


def test_a_history_that_needs_no_cut_is_not_touched(path):
    """Resumed at its end, no byte is written: not even the time of change moves."""
    os.utime(path, (1, 1))
    before = path.read_bytes()
    MetricsLog(path, 100)
    assert path.read_bytes() == before
    assert path.stat().st_mtime == 1


def test_one_of_several_processes_writes(path):
    """The others neither cut nor append."""
    log = MetricsLog(path, 60, write=False)
    log.append({"update": 61})
    assert read_metrics(path) == RECORDS
    assert log.recent == [{"update": 61}]


def test_a_damaged_line_costs_that_record_alone(path):
    """Those behind it are read, with a warning, and resumption cuts none of them away."""
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b'{"update": 3, "meta_lo\xff\n'
    path.write_bytes(b"".join(lines))
    MetricsLog(path, 60)
    assert path.read_bytes() == b"".join(lines[:60])
    with pytest.warns(UserWarning, match=r"Line 3 of .* is damaged and left out"):
        assert read_metrics(path) == RECORDS[:2] + RECORDS[3:60]


LEFT = b"".join(json.dumps(record).encode() + b"\n" for record in RECORDS[:9])
"""Of a run that was killed before its checkpoint after update 10."""


@pytest.mark.parametrize("tail", [b"", b'{"update": 10, "meta_', b'{"update": 9, "seconds": 1}\n'])
def test_what_a_run_left_before_its_first_checkpoint_is_begun_anew(tmp_path, recwarn, tail):
    """Its updates are made again; nothing is kept of them and nobody is told."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LEFT + tail)
    MetricsLog(path, 0, first_checkpoint=10)
    assert path.read_bytes() == b""
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert not recwarn.list


@pytest.mark.parametrize(
    "line",
    [
        b'{"update": 10, "meta_loss": 0.5}\n',  # there was a checkpoint then, and it is gone
        b'{"step": 3, "loss": 0.5}\n',
        b'{"update": 3, "loss": 0.5}\n',
        b'{"update": 0, "meta_loss": 0.5}\n',
        b"notes\n",
    ],
)
def test_what_is_no_left_over_is_moved_aside(tmp_path, line):
    """Under the next free name, byte for byte, with a sentence; the run's own begins empty."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LEFT + line)
    (tmp_path / "metrics-1.jsonl").write_bytes(b"before")
    with pytest.warns(UserWarning, match=r"it is kept as metrics-2\.jsonl, and") as told:
        log = MetricsLog(path, 0, first_checkpoint=10)
    assert len(told) == 1
    log.append({"update": 1, "meta_loss": 0.25})
    assert read_metrics(path) == [{"update": 1, "meta_loss": 0.25}]
    assert (tmp_path / "metrics-1.jsonl").read_bytes() == b"before"
    assert (tmp_path / "metrics-2.jsonl").read_bytes() == LEFT + line
    (tmp_path / "metrics.jsonl").write_bytes(LEFT + line)
    MetricsLog(path, 0, first_checkpoint=10, write=False)  # another process leaves it alone
    assert path.read_bytes() == LEFT + line


def test_a_run_whose_checkpoints_are_gone_keeps_its_history_aside(tmp_path):
    """Of both files; the run that begins anew has the same history."""
    train(3, workdir=tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    before = [(tmp_path / f"{name}.jsonl").read_bytes() for name in ("metrics", "seconds")]
    with pytest.warns(UserWarning, match=r"kept as (metrics|seconds)-1\.jsonl"):
        train(3, workdir=tmp_path)
    after = [(tmp_path / f"{name}-1.jsonl").read_bytes() for name in ("metrics", "seconds")]
    assert after == before
    assert (tmp_path / "metrics.jsonl").read_bytes() == before[0]
