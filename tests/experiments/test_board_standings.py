"""Wins by task, tasks resampled, and others on the tasks of those that lack some."""

import numpy as np
from test_board import cell

from l2ljax.evaluation.aggregate import interquartile_mean
from l2ljax.experiments import board_page, board_standings
from l2ljax.tasks.suite import ENTRIES

SHORTENED = ("start", "final_loss", "expected_loss")


def test_wins_are_by_the_interval_of_the_mean_log_ratio():
    """Lower on all, higher on all, and as often lower as higher."""
    rng = np.random.default_rng(0)
    noise = np.exp(0.1 * rng.normal(size=(3, 8)))
    one = np.ones(8)
    ours = {
        "lower": 0.5 * noise[0],
        "higher": 2 * noise[1],
        "level": noise[2] / noise[2].prod() ** 0.125,
    }
    theirs = dict.fromkeys(ours, one) | {"not ours": one}
    assert board_standings.better_level_worse(ours, theirs) == (1, 1, 1)
    assert board_standings.better_level_worse(theirs, theirs) == (0, 4, 0)


def test_resampled_tasks_tell_more_than_resampled_runs():
    """Runs of a task that are all alike tell nothing more: the interval is that of the tasks'."""
    found = {str(i): np.full(8, x) for i, x in enumerate(np.linspace(0.5, 1.5, 11))}
    low, high = board_standings.tasks_resampled(found)
    assert low < 0.85
    assert high > 1.15
    assert board_standings.tasks_resampled(dict.fromkeys("abc", np.ones(8))) == (1.0, 1.0)
    few = interquartile_mean(found)
    assert (few.low, few.high) == (few.iqm, few.iqm)


def test_the_page_has_other_measures_wins_and_the_tasks_of_those_not_ranked():
    """Half of Adam's final loss and, of the last parameters, half of half over half: the same."""
    names = [name for name, entry in ENTRIES.items() if entry.split == "held_out"][:6]
    ends = {"adam": ("tuned", 0.2), "ours": ("learned", 0.1), "muon": ("tuned", 0.4)}
    some = [cell(t, o, group, [x] * 5) for t in names for o, (group, x) in ends.items()]
    some.append(cell("quadratic", "adam", "tuned", [0.2] * 5))
    cells = {
        (100, c["task"], c["optimizer"]): c
        for c in some[:-1]
        if (c["task"], c["optimizer"]) != (names[5], "muon")
    }
    page = board_page.page(cells)
    assert "| ours | 0.500 (0.500 ... 0.500) | 0.50 ... 0.50 | 0.500 (0.500 ... 0.500) |" in page
    assert "| better, level, worse than | adam |\n| --- | --- |\n| ours | 6, 0, 0 |" in page
    assert "| on the tasks of | muon (5) |" in page
    assert "| muon | 2.000 (2.000 ... 2.000) |" in page
    few = {key: {**c, **{k: c[k][:4] for k in SHORTENED}} for key, c in cells.items()}
    assert "better, level, worse" not in board_page.page(few)  # no interval, no verdict
