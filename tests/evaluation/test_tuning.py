"""`tune` and `tune_inside`: the best rate, and what they tell of it."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.base import Task
from l2ljax.evaluation import BASELINES, LEARNING_RATES, evaluate, tune, tune_inside
from l2ljax.evaluation._rollouts import Sizes, task_parts
from l2ljax.evaluation.tuning import PURPOSE, _all_rates, program, search
from l2ljax.tasks import mlp
from l2ljax.tasks.data import Images

PARABOLA = Task(init=lambda _, key: jax.random.normal(key), loss=lambda x, _: x**2)


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


@pytest.mark.parametrize("kind", [jnp.asarray, np.asarray, tuple])
def test_rates_may_be_an_array(kind):
    """What comes back is a plain number of the grid."""
    rates = kind((0.25, 0.5, 0.75))
    best, _ = tune(PARABOLA, optax.sgd, rates, jax.random.key(0), num_tasks=2, num_steps=1)
    inside, grid = tune_inside(
        PARABOLA, optax.sgd, jax.random.key(0), num_tasks=2, num_steps=1, learning_rates=rates
    )
    assert (best, inside, grid) == (0.5, 0.5, (0.25, 0.5, 0.75))
    assert type(best) is float


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"learning_rates": jnp.array([0.1, -0.1])},
            "learning_rates must be a finite number above",
        ),
        ({"learning_rates": jnp.array([0.1, jnp.nan])}, "learning_rates must be a finite number"),
        ({"num_tasks": jnp.array(2)}, "num_tasks must be an integer of at least 1, got"),
        ({"num_steps": np.array(2)}, "num_steps must be an integer of at least 1, got"),
    ],
)
def test_arrays_are_looked_into_before_anything_is_run(changes, words):
    """A count that is an array could not be part of what is compiled."""
    given = {"learning_rates": (0.1,), "num_tasks": 2, "num_steps": 2} | changes
    with pytest.raises(ValueError, match=words):
        tune(PARABOLA, optax.sgd, key=jax.random.key(0), **given)


def test_tune_compiles_once_for_all_rates():
    """The rate is a traced value: the transformation is built once."""
    built = []

    def make_tx(rate):
        built.append(rate)
        return optax.sgd(rate)

    tune(PARABOLA, make_tx, (0.1, 0.5, 0.9), jax.random.key(0), num_tasks=2, num_steps=2)
    assert len(built) == 1


def test_tune_counts_divergence_as_worst():
    """One optimizee that overflows disqualifies a rate; if all do, there is a sentence."""
    key, rates = jax.random.key(0), (1e30, 1e-3, 1e-4)
    best, _ = tune(PARABOLA, optax.sgd, rates, key, num_tasks=2, num_steps=5)
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


def warm(rate):
    return optax.sgd(optax.warmup_cosine_decay_schedule(0.0, rate, 2, 10))


def float_only(rate):
    if not isinstance(rate, float):
        raise TypeError("a float, please")
    return optax.sgd(rate)


@pytest.mark.parametrize(
    "make_tx",
    [warm, float_only, functools.partial(optax.lookahead, sync_period=2, slow_step_size=1)],
    ids=["warm-up from 0", "wants a float", "lookahead"],
)
def test_whatever_makes_a_transformation_can_be_tuned(make_tx):
    """Each rate's losses are those of `evaluate` on the draws of tuning."""
    if isinstance(make_tx, functools.partial):
        look = make_tx

        def make_tx(rate):
            return look(optax.sgd(rate))

    rates, key, sizes = (0.05, 0.4), jax.random.key(0), {"num_tasks": 2, "num_steps": 4}
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        _, losses = tune(PARABOLA, make_tx, rates, key, **sizes)
    for rate, row in zip(rates, losses, strict=True):
        alone = evaluate(PARABOLA, make_tx(rate), jax.random.fold_in(key, PURPOSE), **sizes)
        np.testing.assert_allclose(row, alone, rtol=1e-4, atol=1e-9)


def test_what_is_wrong_with_a_transformation_is_said():
    """Not that it cannot be traced."""

    def broken(rate):
        raise RuntimeError("broken at any rate")

    with pytest.raises(RuntimeError, match="broken at any rate"):
        tune(PARABOLA, broken, (0.1,), jax.random.key(0), num_tasks=1, num_steps=1)
    with pytest.raises(TypeError, match="tx must be an Optax transformation"):
        tune(PARABOLA, lambda rate: rate, (0.1,), jax.random.key(0), num_tasks=1, num_steps=1)


def test_tune_tells_of_an_edge():
    """0.5 is the optimum: a warning where it lies beyond the grid, none where inside."""
    sizes = {"num_tasks": 2, "num_steps": 2}
    with pytest.warns(UserWarning, match="0.2, is the highest of those tried, 0.05 ... 0.2"):
        best, losses = tune(PARABOLA, optax.sgd, (0.05, 0.1, 0.2), jax.random.key(0), **sizes)
    assert (best, losses.shape) == (0.2, (3, 2, 3))
    with warnings.catch_warnings(action="error"):
        tune(PARABOLA, optax.sgd, (0.2, 0.5, 0.7), jax.random.key(0), **sizes)


def test_a_rate_that_stays_at_the_edge_is_kept_and_flagged():
    """A rate that changes nothing: ties go to the least, however far the grid is widened."""

    def still(rate):
        return optax.chain(optax.sgd(rate), optax.scale(0.0))

    key, sizes = jax.random.key(0), {"num_tasks": 2, "num_steps": 2}
    with pytest.warns(UserWarning, match="is the lowest of those tried"):
        best, grid = tune_inside(PARABOLA, still, key, learning_rates=(0.1, 1.0), **sizes)
    assert best == grid[0] == pytest.approx(1e-4)
    found = search(PARABOLA, still, key, Sizes(2, 2, 2), (0.1, 1.0))
    assert (found.edge, found.num_tasks, found.num_steps) == ("lowest", 2, 2)
    assert len(found.grid) == len(found.final_losses) == len(found.nonfinite) == 11


def test_one_infinite_optimizee_does_not_hide_the_best_rate():
    """Every rate has it; the others' mean decides, and a warning says so."""
    task = Task(
        sample=lambda data, key: jax.random.bernoulli(key, 0.3),
        init=lambda _, key: jax.random.normal(key),
        batch=lambda data, instance, key: instance,
        loss=lambda x, bad: jnp.where(bad, jnp.inf, x**2),
    )
    with pytest.warns(UserWarning, match="At every learning rate from 0.1 to 0.9 an optimizee"):
        best, losses = tune(
            task, optax.sgd, (0.1, 0.45, 0.9), jax.random.key(0), num_tasks=12, num_steps=2
        )
    bad = ~np.isfinite(losses[:, :, -1]).all(axis=0)
    assert 0 < bad.sum() < 12
    assert best == 0.45


def test_equal_keys_draw_other_optimizees_than_evaluate():
    """No start of tuning is one of the evaluation's."""
    key, sizes = jax.random.key(0), {"num_tasks": 16, "num_steps": 1}
    _, tuned = tune(PARABOLA, optax.sgd, (0.2, 0.5, 0.7), key, **sizes)
    reported = evaluate(PARABOLA, optax.sgd(0.5), key, **sizes)
    assert not np.intersect1d(tuned[0, :, 0], reported[:, 0]).size


def test_data_are_arguments_of_the_compiled_sweep():
    """Programs for small and large data sets are equally long."""

    def length(num_images):
        images = Images(
            jnp.zeros((num_images, 8, 8, 1), jnp.uint8), jnp.zeros(num_images, jnp.int32)
        )
        task = mlp(images, hidden_sizes=(2,), batch_size=4, num_classes=3)
        parts, data = task_parts(task)
        made = program(_all_rates, [*parts, optax.adam], (Task, Sizes(2, 2, 2)))
        return len(made.lower(data, jnp.ones(3), jax.random.key(0)).as_text())

    assert abs(length(5000) - length(100)) < 200
