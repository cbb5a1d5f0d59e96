"""The script that the type checker reads as a user's own also runs."""

import runpy
from pathlib import Path

import numpy as np


def test_a_users_script_trains():
    """From rate 0.1 toward 0.5, at which a parabola is solved in one step."""
    script = runpy.run_path(str(Path(__file__).parent / "typing" / "user_script.py"))
    assert np.log(0.15) < script["main"]() < np.log(1.0)
