"""Loggers get every record's numbers, are closed at any end, and cannot end a run."""

import json

import jax
import optax
import pytest

from l2ljax.estimators import truncated_bptt
from l2ljax.optimizers import lstm
from l2ljax.tasks import quadratic
from l2ljax.training import meta_train
from l2ljax.training.history import read_seconds


class Kept:
    def __init__(self, fails=False):
        self.rows, self.closed, self.fails, self.calls = [], 0, fails, 0

    def log(self, step, values):
        self.calls += 1
        if self.fails:
            raise OSError("no network")
        self.rows.append((step, values))

    def close(self):
        self.closed += 1


OPTIMIZER = lstm(hidden_sizes=(2,))
ESTIMATOR = truncated_bptt(
    quadratic(dim=2), OPTIMIZER, num_tasks=2, episode_length=2, unroll_length=2
)


def train(number=3, seed=1, **options):
    start = OPTIMIZER.init(jax.random.key(0))
    options = {"num_meta_updates": number, "log_every": 1, **options}
    return meta_train(ESTIMATOR, optax.sgd(0.1), start, jax.random.key(seed), **options)


def test_a_logger_gets_each_record_and_a_failing_one_only_warns(tmp_path):
    good, bad = Kept(), Kept(fails=True)
    with pytest.warns(UserWarning, match="Kept failed and gets no more records: OSError: no net"):
        train(workdir=tmp_path, logger=[bad, good])
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [step for step, _ in good.rows] == [r["update"] for r in records] == [1, 2, 3]
    assert [v["meta_loss"] for _, v in good.rows] == [r["meta_loss"] for r in records]
    assert (bad.calls, bad.closed, good.closed) == (1, 1, 1)


def test_seconds_go_up_over_resuming(tmp_path):
    """The clock of a run goes on where it stopped; histories, which are repeated, have none."""
    kept = Kept()
    train(2, workdir=tmp_path, logger=kept)
    result = train(4, workdir=tmp_path, logger=kept)
    seconds = [values["seconds"] for _, values in kept.rows]
    assert len(seconds) == 4
    assert not any("seconds" in record for record in result.history)
    assert seconds == sorted(seconds)
    assert seconds[0] > 0
    noted = read_seconds(tmp_path / "seconds.jsonl")
    assert [update for update, _ in noted] == [1, 2, 3, 4]
    assert [s for _, s in noted] == pytest.approx(seconds, abs=0.05)  # read one after the other
    train(4, workdir=tmp_path)
    assert read_seconds(tmp_path / "seconds.jsonl") == noted  # done: nothing is added


def test_times_after_the_last_checkpoint_are_cut_with_the_history(tmp_path):
    """No time of a record that was made again is left; damage costs its line alone."""
    train(4, workdir=tmp_path, checkpoint_every=4)
    path = tmp_path / "seconds.jsonl"
    before = path.read_text()
    assert before.count("\n") == 4
    with path.open("a") as file:
        file.write('{"update": 5, "seconds": 1e9}\n{"upd')
    train(6, workdir=tmp_path)
    assert path.read_text().startswith(before)
    updates, seconds = zip(*read_seconds(path), strict=True)
    assert updates == (1, 2, 3, 4, 5, 6)
    assert seconds[-1] < 1e8
    with path.open("a") as file:  # of nobody's making
        file.write(
            '7\n{"update": 7}\n{"update": 8, "seconds": true}\n{"update": 2, "seconds": 9}\n'
        )
    assert len(read_seconds(path)) == 6
    assert read_seconds(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_logger_is_closed_when_the_run_fails(error):
    def fail(record):
        raise error

    kept = Kept()
    with pytest.raises(error):
        train(logger=kept, hook=fail)
    assert kept.closed == 1


def test_a_logger_is_closed_when_the_run_is_refused(tmp_path):
    """As by a workdir that holds another run."""
    train(2, workdir=tmp_path)
    kept = Kept()
    with pytest.raises(ValueError, match="holds another run"):
        train(2, workdir=tmp_path, logger=kept, seed=5)
    assert kept.closed == 1


def test_what_is_no_logger_is_refused():
    with pytest.raises(TypeError, match=r"log\(step, values\) and close\(\)"):
        train(logger=print)
