"""Intervals, medians and counts of `summary.json`."""

import json

import numpy as np
import pytest
import scipy.stats

from l2ljax.evaluation import Curve, Tuning, differences, mean_ci95, summarise
from l2ljax.evaluation.statistics import LEAST


@pytest.mark.parametrize("n", [LEAST, 8, 64])
def test_the_interval_is_students(n):
    """Against SciPy's."""
    sample = np.random.default_rng(0).normal(3.0, 2.0, size=(n, 3))
    low, high = mean_ci95(sample)
    expected = scipy.stats.ttest_1samp(sample, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(low, expected.low, rtol=1e-9)
    np.testing.assert_allclose(high, expected.high, rtol=1e-9)


@pytest.mark.parametrize(("kind", "least"), [("normal", 0.90), ("lognormal", 0.80)])
@pytest.mark.parametrize("n", [5, 8, 16, 64])
def test_coverage_of_the_true_mean(kind, least, n):
    """Simulated, 20,000 samples: the standard error of the coverage is below 0.003."""
    draws = np.random.default_rng(n).normal(size=(n, 20_000))
    values, mean = (draws, 0.0) if kind == "normal" else (np.exp(draws), np.exp(0.5))
    low, high = mean_ci95(values)
    assert np.mean((low <= mean) & (mean <= high)) >= least


@pytest.mark.parametrize("n", [5, 64])
def test_the_geometric_interval_covers_a_lognormals_median(n):
    """exp(0) is the geometric mean of exp(normal): log10 is normal, so the interval is exact."""
    draws = np.exp(np.random.default_rng(0).normal(size=(400, n, 2)))
    held = 0
    for losses in draws:
        low, high = summarise(Curve(None, losses))["final_loss"]["geometric_ci95"]
        held += low <= 1.0 <= high
    assert held / 400 == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 400))


def test_below_the_least_number_there_is_no_interval():
    for n in range(1, LEAST):
        assert np.isnan(mean_ci95(np.arange(float(n)))).all()
        assert summarise(Curve(0.1, np.ones((n, 3))))["final_loss"]["ci95"] == [None, None]
    assert np.isfinite(mean_ci95(np.arange(float(LEAST)))).all()


def test_clusters_of_equal_size_are_their_means():
    """Then the interval is Student's of the means of the clusters."""
    clusters = np.repeat(np.arange(6), 4)
    values = np.random.default_rng(0).normal(size=24) + clusters
    order = np.random.default_rng(1).permutation(24)
    low, high = mean_ci95(values[order], clusters[order])
    means = values.reshape(6, 4).mean(axis=1)
    expected = scipy.stats.ttest_1samp(means, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose([low, high], [expected.low, expected.high], rtol=1e-9)
    assert np.isnan(mean_ci95(values, np.repeat(np.arange(3), 8))).all()


def test_coverage_with_clusters_of_unequal_size():
    """12 photographs, 1 to 8 crops each, that differ less than photographs: 95 %, not half."""
    random = np.random.default_rng(0)
    clusters = np.repeat(np.arange(12), random.integers(1, 9, size=12))
    effects = random.normal(size=(12, 5000))[clusters]
    values = effects + 0.3 * random.normal(size=effects.shape)
    low, high = mean_ci95(values, clusters)
    assert np.mean((low <= 0) & (high >= 0)) >= 0.90
    low, high = mean_ci95(values)
    assert np.mean((low <= 0) & (high >= 0)) < 0.75


def test_summary_of_finite_and_diverged_curves():
    """Means over what was measured; null, never NaN, where an optimizee diverged."""
    losses = np.array([[4.0, 2.0, 1.0], [4.0, 4.0, 3.0]])
    good = summarise(Curve(0.1, losses))
    assert good["final_loss"]["mean"] == 2.0
    assert good["mean_loss"] == 3.0
    assert good["final_loss"]["median"] == 2.0
    assert good["final_loss"]["geometric_mean"] == pytest.approx(np.sqrt(3.0))
    assert good["final_loss"]["ci95"] == [None, None]  # two optimizees
    assert good["diverged"] == 0
    losses[1, 2] = np.nan
    bad = summarise(Curve(None, losses))
    assert (bad["diverged"], bad["final_loss"]["mean"], bad["mean_loss"]) == (1, None, None)
    assert bad["final_loss"]["ci95"] == [None, None]


def test_heavy_tails_are_told_of():
    """One optimizee at 5e15, though finite, ended above its start; the rest tell the median."""
    losses = np.tile([10.0, 1.0], (9, 1))
    losses[4, 1] = 5e15
    losses[7, 1] = np.nan
    found = summarise(Curve(0.1, losses))
    assert (found["diverged"], found["above_start"], found["nonfinite"]) == (2, 1, 1)
    assert found["final_loss"]["median"] == 1.0
    assert found["final_loss"]["mean"] is None
    losses[7, 1] = 1.0
    found = summarise(Curve(0.1, losses))["final_loss"]
    assert found["mean"] == pytest.approx((8 + 5e15) / 9)
    assert found["geometric_mean"] == pytest.approx((5e15) ** (1 / 9))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_median_survives_what_is_not_finite(bad):
    """Of 4: the middle two; where half are bad it is not finite, and null."""
    median = [
        summarise(Curve(None, np.array([[9.0, value] for value in values])))["final_loss"]["median"]
        for values in ([1.0, 2.0, 3.0, bad], [1.0, 2.0, bad, bad])
    ]
    assert median == [2.5, None]


def test_losses_that_are_not_positive_have_no_geometric_mean():
    found = summarise(Curve(None, np.array([[1.0, -1.0]] * 5)))["final_loss"]
    assert (found["mean"], found["geometric_mean"], found["geometric_ci95"]) == (
        -1.0,
        None,
        [None, None],
    )


@pytest.mark.parametrize("lost", [np.inf, np.nan, 0.0, -1.0])
def test_no_ratio_has_a_geometric_mean_where_one_is_not_positive_and_finite(lost):
    curves = {
        "a": Curve(None, np.array([[1.0, lost]] + [[1.0, 1.0]] * 5)),
        "b": Curve(0.1, np.full((6, 2), 2.0)),
    }
    for first, other in (("a", "b"), ("b", "a")):
        ratio = differences(curves, first)[other]["final_ratio"]
        assert (ratio["geometric_mean"], ratio["geometric_ci95"]) == (None, [None, None])


def test_differences_are_of_the_same_optimizees():
    """Pair by pair, above the one that is named; null where one is not finite."""
    losses = np.array([[4.0, 1.0], [4.0, 3.0]])
    curves = {
        "first": Curve(None, losses, expected_loss=np.array([1.0, 2.0])),
        "worse": Curve(0.1, losses * [[1.0, 2.0]], expected_loss=np.array([2.0, 5.0])),
        "bad": Curve(0.1, losses + np.nan, expected_loss=np.array([2.0, np.nan])),
    }
    found = differences(curves, "first")
    few = [None, None]
    assert list(found) == ["worse", "bad"]
    assert found["worse"]["final_loss"] == {"mean": 2.0, "ci95": few, "median": 2.0}
    assert found["worse"]["mean_loss"] == {"mean": 1.0, "ci95": few, "median": 1.0}
    assert found["worse"]["expected_loss"] == {"mean": 2.0, "ci95": few, "median": 2.0}
    assert found["worse"]["final_ratio"]["geometric_mean"] == pytest.approx(2.0)
    assert found["bad"]["final_loss"] == {"mean": None, "ci95": few, "median": None}


def test_intervals_of_differences_are_paired_and_know_clusters():
    """The spread between optimizees is common to both; only the difference's own counts."""
    random = np.random.default_rng(0)
    own = 100 * random.random((12, 2))
    clusters = np.repeat(np.arange(6), 2)
    apart = 1.0 + 0.1 * random.normal(size=12)
    curves = {
        "first": Curve(None, own, clusters=clusters),
        "other": Curve(0.1, own + apart[:, None], clusters=clusters),
    }
    low, high = differences(curves, "first")["other"]["final_loss"]["ci95"]
    expected = mean_ci95(apart, clusters)
    np.testing.assert_allclose([low, high], expected, rtol=1e-6)


def test_medians_of_differences_rank_what_diverged_last():
    """Own diverged: far below; the other: far above; both: level."""
    inf, nan = np.inf, np.nan
    own = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, nan], [1.0, nan], [1.0, inf]])
    other = np.array([[1.0, 3.0], [1.0, nan], [1.0, 1.0], [1.0, nan], [1.0, 2.0]])
    found = differences({"first": Curve(None, own), "other": Curve(0.1, other)}, "first")
    assert found["other"]["final_loss"]["median"] == 0.0  # of 2, inf, -inf, 0, -inf


def test_a_summary_is_json():
    """No NaN in it, the grid and the counts of tuning among it."""
    tuning = Tuning(0.1, "lowest", (0.1, 1.0), (2.0, None), (0, 3), 4, 5)
    curve = Curve(0.1, np.full((6, 3), np.nan), clusters=np.arange(6), tuning=tuning)
    found = json.loads(json.dumps(summarise(curve, 1), allow_nan=False))
    assert found["tuning"] == {
        "learning_rate": 0.1,
        "edge": "lowest",
        "grid": [0.1, 1.0],
        "final_losses": [2.0, None],
        "nonfinite": [0, 3],
        "num_tasks": 4,
        "num_steps": 5,
    }
