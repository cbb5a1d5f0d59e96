"""Which evaluations share a figure of the page of runs."""

import json

from run_directories import make_run
from test_run_report import page_of


def test_evaluations_of_other_arguments_are_figures_of_their_own(tmp_path):
    """Another dimension is another problem: its Adam is no repetition of this one's."""
    plain = make_run(tmp_path / "plain")
    other = make_run(tmp_path / "other", factor=100.0)
    config = json.loads((other / "config.json").read_text()) | {
        "task": {"name": "quadratic", "dim": 2}
    }
    (other / "config.json").write_text(json.dumps(config))
    text = page_of(plain, other)
    assert "<h3>Evaluation on quadratic</h3>" in text
    assert "<h3>Evaluation on quadratic dim=2</h3>" in text
    assert "different tasks (quadratic, with other arguments)" in text
