"""Loggers beside the history."""

import jax
import optax
import pytest

from l2ljax import meta_train
from l2ljax.estimators import truncated_bptt
from l2ljax.optimizers import lstm
from l2ljax.tasks import quadratic


class StandIn:
    """Keeps what it is given."""

    def __init__(self, fails=False):
        self.seen, self.closed, self.fails = [], 0, fails

    def __call__(self, step, numbers):
        self.seen.append((step, numbers))
        if self.fails:
            raise RuntimeError("no network")

    def close(self):
        self.closed += 1


def train(logger):
    optimizer = lstm(hidden_sizes=(2,))
    estimator = truncated_bptt(
        quadratic(dim=2), optimizer, num_tasks=2, episode_length=2, unroll_length=2
    )
    start = optimizer.init(jax.random.key(0))
    options = {"num_meta_updates": 3, "log_every": 1, "logger": logger}
    return meta_train(estimator, optax.adam(1e-3), start, jax.random.key(1), **options)


def test_every_logger_gets_the_numbers_of_every_record_and_is_closed():
    both = [StandIn(), StandIn()]
    history = train(both).history
    for logger in both:
        assert [step for step, _ in logger.seen] == [1, 2, 3]
        assert logger.closed == 1
        for (_, numbers), record in zip(logger.seen, history, strict=True):
            assert numbers["meta_loss"] == record["meta_loss"]
            assert all(type(value) is float for value in numbers.values())


def test_a_logger_that_fails_is_closed_and_its_error_is_seen():
    logger = StandIn(fails=True)
    with pytest.raises(RuntimeError, match="no network"):
        train(logger)
    assert logger.closed == 1


def test_what_is_no_logger_is_refused():
    for bad in (3, print, [StandIn(), None]):
        with pytest.raises(TypeError, match="logger must be a function"):
            train(bad)
