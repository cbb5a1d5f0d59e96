"""Meta-training survives SIGKILL: a short version of `make kill-test`."""

import itertools

import pytest
from kill import finish, kill_test, run_killed, start
from kill_config import ESTIMATORS, NUM_META_UPDATES, STAGES

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
    assert_same(kill_test(tmp_path, runs=1, kills=3, seed=1, estimators=[estimator]))


@pytest.mark.slow
def test_a_curriculum_killed_inside_its_second_stage(tmp_path):
    """It goes on there, with that stage's running episodes."""
    killed_inside(tmp_path, number=1)


@pytest.mark.long
@pytest.mark.parametrize("number", [0, 2])
def test_a_curriculum_killed_inside_a_stage(number, tmp_path):
    killed_inside(tmp_path, number)


def killed_inside(folder, number):
    """Killed in the middle of the curriculum's stage `number`, a record and more before its end.

    How far a process comes until the signal arrives is up to the machine: tried until it was there.
    """
    begin, end = list(itertools.pairwise((0, *STAGES, NUM_META_UPDATES)))[number]
    alone = folder / "alone"
    finish(start(alone, "curriculum"))
    for attempt in range(5):
        outcome = run_killed(folder / str(attempt), "curriculum", alone, [(begin + end) / 2 + 5])
        if outcome is not None and begin < outcome.kills[0] < end - 10:
            assert_same([outcome])
            return
    pytest.fail("Of five signals none came inside the stage.")


def assert_same(outcomes):
    for outcome in outcomes:
        assert outcome.same_weights
        assert outcome.same_history
