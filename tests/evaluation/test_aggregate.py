"""Aggregates over tasks: closed forms, and an interval that covers."""

import numpy as np
import pytest
from scipy import stats

from l2ljax.evaluation.aggregate import (
    final_losses,
    interquartile_difference,
    interquartile_mean,
    profile,
    ratios,
    speed_up,
)


def test_final_losses_are_means_of_the_last_steps():
    losses = np.arange(201.0)[None]
    assert final_losses(losses).tolist() == [np.arange(191, 201).mean()]


def test_ratios_have_a_floor_and_a_worst():
    """0/0 is 1 (both solved), nothing is below 1/100, what is not finite is 100."""
    ours = np.array([0.0, 2.0, np.inf, 1e-12, 1e9])
    reference = np.array([0.0, 1.0, 1.0, 1.0, 1.0])
    expected = [1.0, 2.0, 100.0, 0.01, 100.0]
    assert ratios(ours, reference, np.ones(5), 1e-6).tolist() == expected


def test_a_reference_that_is_lost_is_no_fault_of_ours():
    """Ours alone is finite: 1/100; neither: 1; and a start that is lost leaves no floor."""
    ours, reference = np.array([0.5, np.nan, 3.0]), np.array([np.nan, np.inf, 2.0])
    start = np.array([1.0, 1.0, np.nan])
    assert ratios(ours, reference, start, 1e-6).tolist() == [0.01, 1.0, 1.5]
    assert ratios(np.array([np.inf]), np.ones(1), np.ones(1), 1e-6).tolist() == [100.0]
    nothing = np.zeros(2)
    assert ratios(nothing, nothing, np.array([0.0, np.nan]), 1e-6).tolist() == [1.0, 1.0]


def test_the_interquartile_mean_is_the_mean_of_the_middle_half():
    runs = [np.array([1.0, 2.0, 3.0, 100.0]), np.array([0.0, 2.5, 3.5, -50.0])]
    assert interquartile_mean(runs).iqm == pytest.approx(np.mean([1.0, 2.0, 2.5, 3.0]))


def test_its_interval_covers():
    """Ten tasks of eight normal runs each, whose interquartile mean is known: 95 % within 4 s.e."""
    rng, centres = np.random.default_rng(0), np.linspace(0.0, 0.5, 10)
    big = [c + rng.normal(size=40_000) for c in centres]
    truth = stats.trim_mean(np.concatenate(big), 0.25)
    hits = 0
    for seed in range(200):
        found = interquartile_mean(
            [c + rng.normal(size=8) for c in centres], num_resamples=400, seed=seed
        )
        hits += found.low <= truth <= found.high
    assert hits / 200 > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)


def test_a_paired_difference_covers_and_leaves_out_what_both_share():
    """Runs that differ by 0.3 and a little noise, on optimizees far more unlike than that."""
    rng, hits, widths = np.random.default_rng(0), 0, []
    for seed in range(200):
        ours = rng.normal(size=(10, 8))
        theirs = ours + 0.3 + 0.1 * rng.normal(size=(10, 8))
        found = interquartile_difference(list(theirs), list(ours), num_resamples=400, seed=seed)
        hits += found.low <= 0.3 <= found.high
        alone = interquartile_mean(list(ours), num_resamples=400, seed=seed)
        widths.append((found.high - found.low) / (alone.high - alone.low))
    assert hits / 200 > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)
    assert np.mean(widths) < 0.5
    with pytest.raises(ValueError, match=r"got \(10, 8\) and \(9, 8\)"):
        interquartile_difference(list(theirs), list(ours[:9]))


def test_a_profile_counts_runs():
    thresholds = np.array([0.5, 1.0, 2.0])
    assert profile([np.array([0.4, 1.0]), np.array([3.0, 1.5])], thresholds).tolist() == [
        0.25,
        0.5,
        0.75,
    ]


def test_a_curve_that_is_the_published_one_has_speed_up_one():
    """On a slow curve the smoothing's lag, about 19 evaluations, is a small share of the steps."""
    steps = np.arange(0, 20_001, 10)
    envelope = 2.0 - steps / 20_000
    losses = np.interp(np.arange(10_001), steps, envelope)[None]
    assert speed_up(losses, steps, envelope) == pytest.approx(1.0, abs=0.03)


def test_twice_as_fast_is_two_and_what_diverges_is_nothing():
    steps = np.arange(0, 20_001, 10)
    envelope = 2.0 - steps / 20_000
    twice = 2.0 - 2 * np.arange(5_001) / 20_000
    found = speed_up(np.stack([twice, np.full(5_001, np.nan)]), steps, envelope)
    assert found == pytest.approx([2.0, 0.0], abs=0.1)


def test_what_is_lower_than_a_flat_end_has_the_published_curves_whole_length():
    """As low as its end from step 200 of 400 on: 2 for a loss of that end, 4 below."""
    found = speed_up(np.array([[0.25] * 101, [0.1] * 101]), [0, 200, 400], [1.0, 0.25, 0.25])
    assert found.tolist() == [2.0, 4.0]
