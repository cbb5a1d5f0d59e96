"""Meta-training survives SIGKILL: a short version of `make kill-test`."""

import pytest
from kill import kill_test


@pytest.mark.slow
def test_killed_runs_end_as_if_left_alone(tmp_path):
    """Two runs, each killed twice at random moments: same weights and history, bit for bit."""
    for outcome in kill_test(tmp_path, runs=2, kills=2, seed=1):
        assert outcome.same_weights
        assert outcome.same_history
