"""`compare`: learned optimizers beside tuned baselines."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.base import Task
from l2ljax.evaluation import compare, differences, evaluate, summarise
from l2ljax.optimizers import lstm
from l2ljax.tasks import cluster_of, neural_art, quadratic, transforms
from l2ljax.unrolling import init_optimizee

PARABOLA = Task(init=lambda _, key: jax.random.normal(key), loss=lambda x, _: x**2)


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


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_rates_may_be_arrays_of_one_number_or_several(kind):
    sizes = {"num_tasks": 2, "num_steps": 2, "num_tuning_tasks": 2, "baselines": {"sgd": optax.sgd}}
    for rate in (0.5, (0.25, 0.5, 0.75)):
        found = compare(
            PARABOLA, {}, jax.random.key(0), learning_rates={"sgd": kind(rate)}, **sizes
        )["sgd"]
        assert (found.learning_rate, found.losses[:, -1].max()) == (0.5, 0.0)


def test_a_baseline_is_tuned_among_the_rates_given():
    """A step of rate r multiplies x by 1 - 2 r: 0.45 is the best; alone, 0.1 is an edge."""
    sizes = {"num_tasks": 2, "num_steps": 2, "num_tuning_tasks": 2, "baselines": {"sgd": optax.sgd}}
    key = jax.random.key(4)
    curves = compare(PARABOLA, {}, key, learning_rates={"sgd": (0.1, 0.45, 0.9)}, **sizes)
    assert curves["sgd"].learning_rate == 0.45
    curves = compare(PARABOLA, {}, key, learning_rates={"sgd": [0.1]}, **sizes)
    assert curves["sgd"].learning_rate == pytest.approx(0.1 * 10 ** (2 / 3))


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


def test_a_pair_is_compared_as_its_transformation():
    optimizer = lstm((2,))
    pair = (optimizer, optimizer.init(jax.random.key(0)))
    learned = {"pair": pair, "alone": optimizer.transform(pair[1])}
    sizes = {"num_tasks": 2, "num_steps": 3, "num_tuning_tasks": 1, "baselines": {}}
    curves = compare(quadratic(2), learned, jax.random.key(1), **sizes)
    np.testing.assert_allclose(curves["pair"].losses, curves["alone"].losses, rtol=1e-5)


def test_one_infinite_optimizee_does_not_throw_a_comparison_away():
    """Kept and flagged: its count, medians of all, and the rate that is best for the others."""
    task = Task(
        sample=lambda data, key: jax.random.bernoulli(key, 0.3),
        init=lambda _, key: jax.random.normal(key),
        batch=lambda data, instance, key: instance,
        loss=lambda x, bad: jnp.where(bad, jnp.inf, x**2),
    )
    curves = compare(
        task,
        {"still": optax.set_to_zero()},
        jax.random.key(0),
        num_tasks=12,
        num_steps=2,
        num_tuning_tasks=12,
        baselines={"sgd": optax.sgd},
        learning_rates={"sgd": (0.1, 0.45, 0.9)},
    )
    assert curves["sgd"].learning_rate == 0.45
    assert 0 < min(curves["sgd"].tuning.nonfinite) == max(curves["sgd"].tuning.nonfinite) < 12
    summary = summarise(curves["sgd"])
    bad = (~np.isfinite(curves["sgd"].losses[:, 0])).sum()
    assert summary["diverged"] == summary["nonfinite"] == bad > 0
    assert summary["final_loss"]["mean"] is None
    assert summary["final_loss"]["median"] is not None
    assert summary["tuning"]["grid"] == [0.1, 0.45, 0.9]
    assert differences(curves, "still")["sgd"]["final_loss"]["median"] < 0


def test_what_cannot_be_compared_is_refused_before_any_work():
    def untouched(rate):
        raise AssertionError("work was begun")

    def compared(**changed):
        sizes = {"num_tasks": 2, "num_steps": 2, "num_tuning_tasks": 2}
        given = {"learned": {}, "baselines": {"sgd": untouched}} | sizes | changed
        return compare(PARABOLA, given.pop("learned"), jax.random.key(0), **given)

    with pytest.raises(ValueError, match="num_tuning_steps must be at most num_steps, 2, got 3"):
        compared(num_tuning_steps=3)
    with pytest.raises(ValueError, match="num_tuning_tasks must be"):
        compared(num_tuning_tasks=0)
    with pytest.raises(ValueError, match="The name 'sgd' is a learned optimizer's and a base"):
        compared(learned={"sgd": optax.sgd(0.1)})
    with pytest.raises(TypeError, match="tx must be an Optax transformation"):
        compared(learned={"mine": 3})


def test_clusters_are_the_labels_of_what_was_drawn():
    """The cluster is found from the key of `task.sample`: here it is where the optimizee starts."""

    def start(data, key):
        return jax.random.randint(key, (), 0, 3)

    task = Task(sample=start, init=lambda row, key: row.astype(jnp.float32), loss=lambda x, _: x**2)
    sizes = {"num_tasks": 20, "num_steps": 1, "num_tuning_tasks": 1, "baselines": {}}
    learned = {"still": optax.set_to_zero()}
    curve = compare(task, learned, jax.random.key(0), cluster=start, **sizes)["still"]
    np.testing.assert_array_equal(curve.clusters**2, curve.losses[:, 0])
    assert set(curve.clusters) == {0, 1, 2}
    summary = summarise(curve)
    assert summary["num_clusters"] == 3
    assert summary["final_loss"]["ci95"] == [None, None]


def test_crops_of_a_photograph_are_a_cluster():
    """Photographs given as arrays are one each; the label is that of the crop drawn."""
    contents = jnp.stack([jnp.full((16, 16, 3), level) for level in (0.1, 0.5, 0.9)])
    task = neural_art(contents, jnp.zeros((16, 16, 3)))
    key = jax.random.key(3)
    which = cluster_of(task)
    row = int(which(task.data, key))
    others = task.data._replace(contents=contents.at[jnp.arange(3) != row].set(0.0))
    np.testing.assert_allclose(task.sample(task.data, key), task.sample(others, key), rtol=1e-5)
    assert task.data.photographs.tolist() == [0, 1, 2]
    crops = task.data._replace(photographs=jnp.array([7, 7, 7]))
    assert int(which(crops, key)) == 7
    scaled = transforms.random_scale(task, 0.5, 2.0)
    assert cluster_of(scaled) is which
    inner, others = (t.sample(task.data, key) for t in (task, scaled))
    np.testing.assert_array_equal(inner, others.inner)
