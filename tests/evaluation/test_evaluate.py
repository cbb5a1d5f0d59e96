"""`evaluate`, `tune` and the statistics of results."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.base import Task
from l2ljax.evaluation import (
    BASELINES,
    LEARNING_RATES,
    Curve,
    compare,
    differences,
    evaluate,
    summarise,
    tune,
    tune_inside,
)
from l2ljax.tasks import mlp, quadratic
from l2ljax.tasks.data import Images
from l2ljax.unrolling import init_optimizee, unroll

PARABOLA = Task(init=lambda _, key: jax.random.normal(key), loss=lambda x, _: x**2)


@pytest.mark.parametrize("at_once", [1, 3, 64])
def test_evaluate_equals_unrolls_one_by_one(at_once):
    """`[num_tasks, num_steps + 1]`, each row an `unroll` of its own, whatever runs at once."""
    task, tx, key = quadratic(3), optax.adam(0.1), jax.random.key(0)
    losses = evaluate(task, tx, key, num_tasks=4, num_steps=5, at_once=at_once)
    for row, task_key in zip(losses, jax.random.split(key, 4), strict=True):
        init_key, run_key = jax.random.split(task_key)
        state = init_optimizee(task, tx, init_key)
        np.testing.assert_allclose(row, unroll(task, tx, state, run_key, 5)[1], rtol=1e-4)


def test_optimizers_meet_the_same_optimizees():
    """Common random numbers: f(theta_0) agrees for transforms that have nothing in common."""
    images = Images(
        jax.random.bits(jax.random.key(0), (50, 4, 4, 1), jnp.uint8), jnp.arange(50) % 3
    )
    task = mlp(images, hidden_sizes=(2,), batch_size=8)
    first, second = (
        evaluate(task, tx, jax.random.key(1), num_tasks=3, num_steps=2)
        for tx in (optax.sgd(0.1), optax.adam(0.1))
    )
    np.testing.assert_array_equal(first[:, 0], second[:, 0])
    assert not np.array_equal(first[:, 2], second[:, 2])


def test_tune_finds_the_closed_form_optimum():
    """Gradient descent on x^2 contracts by |1 - 2 rate|: 0.4 is the best of these, 3 diverges."""
    rates = (0.01, 0.1, 0.4, 0.9, 3.0)
    best, losses = tune(PARABOLA, optax.sgd, rates, jax.random.key(0), num_tasks=4, num_steps=6)
    assert best == 0.4
    assert losses.shape == (5, 4, 7)
    contraction = (1 - 2 * np.array(rates)) ** 2
    np.testing.assert_allclose(
        losses[:, :, 6], losses[:, :, 0] * contraction[:, None] ** 6, rtol=1e-3, atol=1e-12
    )


def test_tune_compiles_once_for_all_rates():
    """The rate is a traced value: the transformation is built once."""
    built = []

    def make_tx(rate):
        built.append(rate)
        return optax.sgd(rate)

    tune(PARABOLA, make_tx, (0.1, 0.2, 0.3), jax.random.key(0), num_tasks=2, num_steps=2)
    assert len(built) == 1


def test_tune_counts_divergence_as_worst():
    """One optimizee that overflows disqualifies a rate; if all do, there is a sentence."""
    best, _ = tune(PARABOLA, optax.sgd, (1e30, 1e-3), jax.random.key(0), num_tasks=2, num_steps=5)
    assert best == 1e-3
    with pytest.raises(ValueError, match=r"Every learning rate .* diverged"):
        tune(PARABOLA, optax.sgd, (1e30, 1e31), jax.random.key(0), num_tasks=2, num_steps=5)
    with pytest.raises(ValueError, match="at least one learning rate"):
        tune(PARABOLA, optax.sgd, (), jax.random.key(0), num_tasks=2, num_steps=5)


def test_grid_is_widened_until_the_best_is_inside():
    """The optimum 0.5 lies a decade beyond the grid given."""
    settings = {"num_tasks": 4, "num_steps": 3}
    best, grid = tune_inside(
        PARABOLA, optax.sgd, jax.random.key(0), learning_rates=(0.01, 0.02, 0.05), **settings
    )
    assert grid[0] < best < grid[-1]
    assert abs(1 - 2 * best) == min(abs(1 - 2 * np.array(grid)))


def test_default_grid_is_wide_and_three_a_decade():
    """At least 14 values, equal factors of 10^(1/3) to the three digits they are written with."""
    assert len(LEARNING_RATES) >= 14
    np.testing.assert_allclose(np.diff(np.log10(LEARNING_RATES)), 1 / 3, atol=0.002)
    assert set(BASELINES) == {"sgd", "rmsprop", "adam", "nag"}


def test_nag_is_nesterovs_momentum():
    """v <- 0.9 v + g, x <- x - rate (g + 0.9 v), as in Sutskever et al. (2013)."""
    losses = evaluate(PARABOLA, BASELINES["nag"](0.1), jax.random.key(0), num_tasks=1, num_steps=4)
    x, velocity, expected = float(np.sqrt(losses[0, 0])), 0.0, []
    for _ in range(5):
        expected.append(x**2)
        velocity = 0.9 * velocity + 2 * x
        x -= 0.1 * (2 * x + 0.9 * velocity)
    np.testing.assert_allclose(losses[0], expected, rtol=1e-4)


def test_compare_reports_other_draws_than_it_tunes_on():
    """The reported optimizees come from fold_in(key, 0), tuning's from fold_in(key, 1)."""
    key = jax.random.key(4)
    curves = compare(
        PARABOLA,
        {"still": optax.set_to_zero()},
        key,
        num_tasks=3,
        num_steps=2,
        num_tuning_tasks=3,
        baselines={"sgd": optax.sgd},
    )
    assert list(curves) == ["still", "sgd"]
    assert curves["still"].learning_rate is None
    starts = [
        evaluate(PARABOLA, optax.sgd(0.1), jax.random.fold_in(key, i), num_tasks=3, num_steps=2)[
            :, 0
        ]
        for i in (0, 1)
    ]
    np.testing.assert_allclose(curves["still"].losses[:, 2], starts[0], rtol=1e-6)
    np.testing.assert_allclose(curves["sgd"].losses[:, 0], starts[0], rtol=1e-6)
    assert not np.allclose(starts[0], starts[1])


def test_a_given_rate_is_taken_as_it_is():
    """The other baselines are tuned all the same."""
    baselines = {"sgd": optax.sgd, "nag": lambda rate: optax.sgd(rate)}
    sizes = {"num_tasks": 2, "num_steps": 2, "num_tuning_tasks": 2, "baselines": baselines}
    key = jax.random.key(4)
    curves = compare(PARABOLA, {}, key, learning_rates={"sgd": 0.25}, **sizes)
    assert curves["sgd"].learning_rate == 0.25
    ratio = curves["sgd"].losses[:, 1] / curves["sgd"].losses[:, 0]
    assert curves["nag"].learning_rate != 0.25
    given = evaluate(
        PARABOLA, optax.sgd(0.25), jax.random.fold_in(key, 0), num_tasks=2, num_steps=2
    )
    np.testing.assert_allclose(ratio, given[:, 1] / given[:, 0], rtol=1e-6)
    for rates in ({"lion": 1.0}, {"sgd": -1.0}, {"sgd": (0.1, "0.2")}):
        with pytest.raises(ValueError, match="learning_rates"):
            compare(PARABOLA, {}, key, learning_rates=rates, **sizes)


def test_a_baseline_is_tuned_among_the_rates_given():
    """A step of rate r multiplies x by 1 - 2 r: 0.45 is the best; alone, 0.1 is an edge."""
    sizes = {"num_tasks": 2, "num_steps": 2, "num_tuning_tasks": 2, "baselines": {"sgd": optax.sgd}}
    key = jax.random.key(4)
    curves = compare(PARABOLA, {}, key, learning_rates={"sgd": (0.1, 0.45, 0.9)}, **sizes)
    assert curves["sgd"].learning_rate == 0.45
    curves = compare(PARABOLA, {}, key, learning_rates={"sgd": [0.1]}, **sizes)
    assert curves["sgd"].learning_rate == pytest.approx(0.1 * 10 ** (2 / 3))


def test_bootstrap_interval_agrees_with_normal_theory():
    """For the mean of 400 normals: mean -+ 1.96 sd / sqrt(n), to a tenth of its width."""
    sample = np.random.default_rng(0).normal(3.0, 2.0, size=(400, 2))
    low, high = bootstrap_ci95(sample)
    half = 1.96 * sample.std(axis=0) / 20
    np.testing.assert_allclose(low, sample.mean(axis=0) - half, atol=0.1 * half.max())
    np.testing.assert_allclose(high, sample.mean(axis=0) + half, atol=0.1 * half.max())


def test_summary_of_finite_and_diverged_curves():
    """Means over what was measured; null, never NaN, where an optimizee diverged."""
    losses = np.array([[4.0, 2.0, 1.0], [4.0, 4.0, 3.0]])
    good = summarise(Curve(0.1, losses))
    assert good["final_loss"]["mean"] == 2.0
    assert good["mean_loss"] == 3.0
    assert good["final_loss"]["median"] == 2.0
    assert good["final_loss"]["ci95"] == [1.0, 3.0]  # two optimizees: the extremes
    assert good["diverged"] == 0
    losses[1, 2] = np.nan
    bad = summarise(Curve(None, losses))
    assert (bad["diverged"], bad["final_loss"]["mean"], bad["mean_loss"]) == (1, None, None)
    assert bad["final_loss"]["ci95"] == [None, None]


def test_expected_losses_are_of_the_final_parameters_on_more_minibatches():
    """x^2 + noise of the minibatch: the mean of 400 draws is x^2, the same draws for all."""
    noisy = Task(
        init=lambda _, key: jax.random.normal(key),
        batch=lambda data, instance, key: jax.random.normal(key),
        loss=lambda x, noise: x**2 + noise,
    )
    still = {"one": optax.set_to_zero(), "two": optax.sgd(0.1)}
    sizes = {"num_tasks": 3, "num_steps": 2, "num_tuning_tasks": 2, "baselines": {}}
    key = jax.random.key(4)
    assert compare(noisy, still, key, **sizes)["one"].expected_loss is None
    curves = compare(noisy, still, key, final_batches=400, **sizes)
    keys = jax.random.split(jax.random.fold_in(key, 0), 3)
    start = jax.vmap(lambda k: init_optimizee(noisy, still["one"], jax.random.split(k)[0]).params)
    x = np.asarray(start(keys))
    expected = {name: curve.expected_loss for name, curve in curves.items()}
    np.testing.assert_allclose(expected["one"], x**2, atol=4.5 / 20)
    difference = x**2 - (0.8**2 * x) ** 2  # two steps, each times 1 - 2 * 0.1
    np.testing.assert_allclose(expected["one"] - expected["two"], difference, atol=1e-5)
    with pytest.raises(ValueError, match="final_batches must be an integer of at least 1"):
        compare(noisy, still, key, final_batches=0, **sizes)


def test_differences_are_of_the_same_optimizees():
    """Pair by pair, above the one that is named; null where one is not finite."""
    losses = np.array([[4.0, 1.0], [4.0, 3.0]])
    curves = {
        "first": Curve(None, losses, expected_loss=np.array([1.0, 2.0])),
        "worse": Curve(0.1, losses * [[1.0, 2.0]], expected_loss=np.array([2.0, 5.0])),
        "bad": Curve(0.1, losses + np.nan, expected_loss=np.array([2.0, np.nan])),
    }
    found = differences(curves, "first")
    assert list(found) == ["worse", "bad"]
    assert found["worse"]["final_loss"] == {"mean": 2.0, "ci95": [1.0, 3.0], "median": 2.0}
    assert found["worse"]["mean_loss"] == {"mean": 1.0, "ci95": [0.5, 1.5], "median": 1.0}
    assert found["worse"]["expected_loss"] == {"mean": 2.0, "ci95": [1.0, 3.0], "median": 2.0}
    assert found["bad"]["final_loss"] == {"mean": None, "ci95": [None, None], "median": None}


def test_data_are_arguments_of_the_compiled_sweep():
    """Programs for small and large data sets are equally long."""
    from l2ljax.evaluation import _evaluate, _tune

    def sizes(num_images):
        images = Images(
            jnp.zeros((num_images, 8, 8, 1), jnp.uint8), jnp.zeros(num_images, jnp.int32)
        )
        task = mlp(images, hidden_sizes=(2,), batch_size=4, num_classes=3)
        key, rates = jax.random.key(0), jnp.ones(3)
        return np.array(
            [
                len(_evaluate.lower(task, optax.adam(0.1), key, 2, 2, 2).as_text()),
                len(_tune.lower(task, optax.adam, rates, key, 2, 2, 2).as_text()),
            ]
        )

    assert (abs(sizes(5000) - sizes(100)) < 200).all()
