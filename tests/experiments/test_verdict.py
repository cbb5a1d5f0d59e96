"""Whether an adapted optimizer is worth using, from curves that are made up."""

import numpy as np
import pytest

from l2ljax.evaluation import Curve
from l2ljax.experiments.adaptation.verdict import best_of, sentence, standing


def curve(finals, start=1.0):
    finals = np.asarray(finals, np.float64)
    return Curve(0.1, np.stack([np.full(len(finals), start), finals], axis=1))


def test_verdicts():
    """Ratios of pairs; differences where losses are negative; counts where some are not finite."""
    base = curve([0.1, 0.2, 0.4, 0.8, 0.3, 0.5])
    half = curve(base.losses[:, -1] / 2)
    assert standing(half, base).level == "better"
    assert standing(half, base).ratio == pytest.approx(0.5)
    assert standing(base, half).level == "worse"
    assert standing(base, base)[:2] == ("level", 1.0)
    mixed = curve(base.losses[:, -1] * [2, 0.5, 2, 0.5, 2, 0.5])
    assert standing(mixed, base).level == "level"
    solved = curve([1e-30] * 6), curve([1e-9] * 6)
    assert standing(*solved).level == "level"  # both below a millionth of the start
    shifted = curve(base.losses[:, -1] - 1), curve(half.losses[:, -1] - 1)
    assert standing(shifted[1], shifted[0]).level == "better"
    assert standing(*shifted).difference == pytest.approx(base.losses[:, -1].mean() / 2)
    lost = curve([0.01, 0.01, 0.01, 0.01, 0.01, np.nan])
    assert standing(lost, base).level == "worse"
    assert standing(base, lost).level == "better"
    assert standing(lost, lost).level == "unknown"
    assert best_of({"lost": lost, "base": base, "half": half}) == "half"
    curves = {"start": base, "adapted": half, "adam": base, "nag": lost}
    level, text = sentence(curves, "lstm-mnist", changed=True)
    assert level == "better"
    assert text.startswith("Worth using: over 6 fresh optimizees of 1 steps it is better than the ")
    assert "adam at 0.1 (0.5 times its final loss, 95 % interval 0.5 to 0.5)" in text
    assert text.count(".  ") == 0
    assert "Not worth using:" in sentence({**curves, "adapted": mixed, "adam": half}, "x", True)[1]
