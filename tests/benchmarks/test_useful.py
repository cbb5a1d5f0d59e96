"""Time to useful: what counts as useful, and that a run's snapshots come back as they were."""

import math

import jax
import numpy as np
import pytest
import useful

from l2ljax.evaluation import mean_ci95


def test_useful_is_below_every_baseline_on_the_same_optimizees():
    """Intervals are those of the paired differences, by their own formula."""
    draw = np.random.default_rng(0)
    hard = draw.normal(size=64)  # common to all, and far larger than what sets them apart
    own = hard + 1.0
    worse = hard + 1.1 + 0.02 * draw.normal(size=64)
    level = hard + 1.0 + 0.02 * draw.normal(size=64)
    beside = {"adam": {"final": worse.tolist()}, "nag": {"final": level.tolist()}}
    found = useful.above(own, beside)
    np.testing.assert_allclose(found["adam"], mean_ci95(worse - own), rtol=1e-12)
    assert found["adam"][0] > 0
    assert found["nag"][0] < 0 < found["nag"][1]
    assert not useful.is_useful({"above": found})
    assert useful.is_useful({"above": {"adam": found["adam"]}})
    assert not useful.is_useful({"above": {"adam": [None, None]}})  # a loss that is not finite


def test_one_good_moment_is_not_the_time():
    """Useful, then not, is not useful yet; and the last choice has to be."""
    at = [{"seconds": float(t), "above": {"sgd": [low, 1.0]}} for t, low in enumerate([1, -1, 1])]
    assert useful.useful_at(at) == 2.0
    assert useful.useful_at(at[:1]) == 0.0
    assert useful.useful_at(at[:2]) is None


def test_recipes_are_configurations_that_build():
    """Fields by their dotted names; every one is known."""
    from l2ljax.experiments import check_fields

    for work, recipes in useful.RECIPES.items():
        for recipe in recipes:
            config = useful.config_of(work, recipe, seed=5)
            check_fields(config)
            assert config["seed"] == 5
            assert useful.JUDGE != 5


def test_the_cosine_ends_at_zero():
    """Moves under a constant gradient of 1, of the first step, the middle and after the end.

    NAG's is rate x (1 + 0.9 x momentum), momentum 1, 1.9, ... -> 10; Adam's is its rate.
    """
    steps, rate = 100, 0.5
    for name, whole in {"nag, cosine": 10.0, "adam, cosine": 1.0}.items():
        tx = useful.with_cosine(steps)[name](rate)
        state, moves = tx.init(0.0), []
        for _ in range(steps + 1):
            move, state = tx.update(1.0, state)
            moves.append(-float(move))
        assert moves[0] == pytest.approx(rate * (1.9 if whole > 1 else 1.0), rel=1e-5)
        assert moves[50] == pytest.approx(rate / 2 * whole, rel=0.01)
        assert moves[100] == 0.0


@pytest.mark.slow
def test_a_shortened_run_learns_and_is_judged(tmp_path):
    """The recommended recipe for quadratics, two validations long: its snapshots, judged."""
    config = useful.config_of("quadratics", next(iter(useful.RECIPES["quadratics"])), seed=0)
    config |= {"num_meta_updates": 40, "validation": {"num_tasks": 32, "every": 20}}
    found = list(useful.snapshots(config, None))
    seconds, updates, scores, _ = zip(*found, strict=True)
    assert updates[-1] == 40
    assert list(seconds) == sorted(seconds)
    assert scores[-1] == min(scores)
    assert math.isfinite(scores[-1])
    useful.save_snapshots(tmp_path / "runs" / "one.npz", config, found)
    again, loaded = useful.load_snapshots(tmp_path / "runs" / "one.npz")
    assert again["num_meta_updates"] == 40
    for mine, theirs in zip(found, loaded, strict=True):
        assert mine[:3] == tuple(theirs[:3])
        jax.tree.map(np.testing.assert_array_equal, mine.meta_params, theirs.meta_params)
    finals = (1e6 * np.ones(8)).tolist()  # a baseline that anything is below
    beside = {"num_steps": 10, "seed": 3, "sizes": {"num_tasks": 8, "num_tuning_tasks": 1}}
    curve = useful.judged(again, loaded, beside | {"optimizers": {"sgd": {"final": finals}}}, None)
    assert [point["update"] for point in curve] == list(updates)
    assert useful.useful_at(curve) == pytest.approx(seconds[0], abs=0.01)
