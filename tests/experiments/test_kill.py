"""Meta-training survives SIGKILL: a short version of `make kill-test`."""

import pytest
from kill import kill_test
from kill_config import ESTIMATORS

from l2ljax.estimators import BUILDERS


def test_all_estimators_are_killed():
    """None in the list of builders is left out."""
    assert {specification["name"] for specification in ESTIMATORS.values()} == set(BUILDERS)


@pytest.mark.slow
def test_killed_runs_end_as_if_left_alone(tmp_path):
    """Killed twice at random moments: same weights and history, bit for bit."""
    assert_same(kill_test(tmp_path, runs=1, kills=2, seed=1, estimators=["mixture"]))


@pytest.mark.long
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_killed_runs_of_each_estimator(estimator, tmp_path):
    """The curriculum also inside its stages, and where one ends."""
    assert_same(kill_test(tmp_path, runs=1, kills=3, seed=1, estimators=[estimator]))


def assert_same(outcomes):
    for outcome in outcomes:
        assert outcome.same_weights
        assert outcome.same_history
