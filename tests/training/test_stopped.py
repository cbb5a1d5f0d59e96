"""A stopped run that is then to end where it stands has its last validation all the same."""

import jax.numpy as jnp
import pytest
from test_returned import Scoring, _keeping, _train

import l2ljax

SQUARE = Scoring(lambda phi: phi**2)


def train(workdir, number, change=_keeping, validation=SQUARE, **options):
    """Phi goes 1 -> 0.8 -> 0.64 -> ..., a validation at the end alone."""
    options = {"log_every": 1, "workdir": workdir, "validation": validation} | options
    return _train(change, number, **options)


def stopped(workdir, **options):
    """After two updates of ten, none of which was validated."""
    found = train(workdir, 10, hook=lambda record: record["update"] == 2, **options)
    assert (found.num_meta_updates, found.best_score) == (2, float("inf"))


@pytest.mark.parametrize("number", [2, 1])
def test_it_is_validated_once(tmp_path, number):
    """Scores and weights are those after its last update, here and when loaded or asked again."""
    stopped(tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    told = []
    train(tmp_path, number, hook=told.append)
    assert told == [{"update": 2, "validation_loss": pytest.approx(0.64**2)}]
    after = (tmp_path / "metrics.jsonl").read_text()
    assert after.startswith(before)
    assert after.count("\n") == before.count("\n") + 1
    for found in (l2ljax.load_run(tmp_path), train(tmp_path, number)):
        best = found.meta_params, found.best_score, found.best_update
        assert best == (pytest.approx(0.64), pytest.approx(0.64**2), 2)
        assert not found.interrupted
    assert (tmp_path / "metrics.jsonl").read_text() == after


def test_it_ends_as_a_run_that_was_asked_for_no_more(tmp_path):
    """The same history, byte for byte; it may then go on as that one may."""
    stopped(tmp_path / "stopped")
    for folder in ("stopped", "alone"):
        train(tmp_path / folder, 2)
        train(tmp_path / folder, 4)
    texts = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("stopped", "alone")]
    assert texts[0] == texts[1]


def test_killed_before_the_record_it_is_done_again(tmp_path):
    """The checkpoint with the score comes first: without it the record would be believed."""
    stopped(tmp_path)
    first = train(tmp_path, 2)
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    again = train(tmp_path, 2)
    assert path.read_bytes() == whole
    assert (again.meta_params, again.best_score) == (first.meta_params, first.best_score)


def test_a_score_that_is_not_finite_is_taken_once(tmp_path):
    """Then the best stays what gave a finite meta-gradient last."""
    endless = Scoring(lambda phi: phi + jnp.inf)
    stopped(tmp_path, validation=endless)
    for _ in range(2):
        found = train(tmp_path, 2, validation=endless)
        assert [r for r in found.history if "validation_loss" in r] == [
            {"update": 2, "validation_loss": None}
        ]
        assert (found.meta_params, found.best_score) == (pytest.approx(0.8), float("inf"))


def test_a_run_that_was_given_up_is_refused_as_before(tmp_path):
    """No validation of what it came to."""

    def broken(meta_loss, meta_gradient, count, metrics):
        return _keeping(meta_loss, jnp.nan * meta_gradient, count, metrics)

    limits = {"max_consecutive_skips": 1, "max_restores": 0}
    for number in (10, 1):
        with pytest.raises(l2ljax.DivergenceError) as told:
            train(tmp_path, number, broken, **limits)
        assert not any("validation_loss" in r for r in told.value.result.history)
