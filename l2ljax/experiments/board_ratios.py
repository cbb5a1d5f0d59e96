"""The board's cells -> final losses over tuned Adam's, optimizee by optimizee."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from l2ljax.evaluation.aggregate import ratios
from l2ljax.tasks.suite import ENTRIES

REFERENCE = "adam"
"""Tuned Adam, which all others are divided by."""

Cells = Mapping[tuple[int, str, str], Mapping[str, Any]]
"""(steps, task, optimizer) -> what the cell's file holds."""


def task_ratios(
    cells: Cells, num_steps: int, optimizer: str, split: str, measure: str = "final_loss"
) -> dict[str, np.ndarray]:
    """Task -> losses relative to tuned Adam's, where both cells are there.

    Args:
        cells: the board's.
        num_steps, optimizer, split: which.
        measure: `final_loss`, or `expected_loss`, that of the last parameters.
    """
    found = {}
    for name, entry in ENTRIES.items():
        ours = cells.get((num_steps, name, optimizer))
        reference = cells.get((num_steps, name, REFERENCE))
        if entry.split == split and ours is not None and reference is not None:
            start = np.array(ours["start"], np.float64)
            mine, adams = _numbers(ours, measure), _numbers(reference, measure)
            found[name] = ratios(mine, adams, start, entry.floor)
    return found


def _numbers(cell: Mapping[str, Any], measure: str) -> np.ndarray:
    return np.array([np.nan if x is None else x for x in cell[measure]], np.float64)
