"""`imitation`: distances and meta-gradients in closed form, on either path."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax import experiments
from l2ljax.base import LearnedOptimizer, Task
from l2ljax.estimators import curriculum, imitation, mixture, truncated_bptt
from l2ljax.optimizers import lstm
from l2ljax.tasks import quadratic
from l2ljax.training.loop import meta_train

BOWL = Task(  # g = x, from 1 and 2
    init=lambda instance, key: {"a": jnp.ones(()), "b": jnp.full((1,), 2.0)},
    loss=lambda p, batch: 0.5 * sum(jnp.sum(x**2) for x in jax.tree.leaves(p)),
)
RATE = LearnedOptimizer(
    init=lambda key: jnp.float32(0.3),
    transform=lambda rate: optax.with_extra_args_support(optax.scale(-rate)),
)
DECAY = LearnedOptimizer(
    init=lambda key: jnp.float32(0.7),
    transform=lambda m: optax.with_extra_args_support(
        optax.chain(optax.trace(m), optax.scale(-0.1))
    ),
)
ESTIMATE = jax.jit(lambda estimator, *args: estimator.estimate(*args))


def first_window(estimator, meta_params):
    state = estimator.init(jax.random.key(0), meta_params)
    return ESTIMATE(estimator, meta_params, state, jax.random.key(1))


@pytest.mark.parametrize(("follow", "rate"), [("teacher", 0.2), ("learner", 0.3)])
def test_a_learned_rate_in_closed_form(follow, rate):
    """u = -r g beside v = -q g: K w (r - q)^2 / q^2 for equal weights, on either path."""
    estimator = imitation(
        BOWL, RATE, optax.sgd(0.2), num_tasks=2, episode_length=6, unroll_length=3,
        weights=[2.0] * 6, follow=follow,
    )  # fmt: skip
    loss, grad, _, metrics = first_window(estimator, jnp.float32(0.3))
    np.testing.assert_allclose(loss, 3 * 2 * (0.1 / 0.2) ** 2, rtol=1e-5)
    np.testing.assert_allclose(grad, 3 * 2 * 2 * 0.1 / 0.2**2, rtol=1e-5)
    expected = 0.5 * 5 * (1 - rate) ** (2 * np.arange(4))
    np.testing.assert_allclose(metrics["losses"], expected, rtol=1e-5)


def test_weights_are_of_the_updates():
    """Of three updates the last alone: |g_3|^2 over their mean, g_t = 0.8^t g_0."""
    estimator = imitation(
        BOWL, RATE, optax.sgd(0.2), num_tasks=1, episode_length=3, unroll_length=3,
        weights=[0, 0, 1],
    )  # fmt: skip
    loss, *_ = first_window(estimator, jnp.float32(0.3))
    squares = 0.64 ** np.arange(3)
    np.testing.assert_allclose(loss, 0.25 * squares[2] / squares.mean(), rtol=1e-5)


def momentum_window(m, trace, path):
    """Distance to decay 0.5 over a window: float64, one coordinate that starts at 1.

    `trace` is the learner's at its start, `path` the teacher's `(x, trace)`. Returns the distance,
    and both after it.
    """
    x, shown = path
    apart, size = [], []
    for _ in range(2):
        trace, shown = m * trace + x, 0.5 * shown + x
        apart.append((0.1 * (trace - shown)) ** 2)
        size.append((0.1 * shown) ** 2)
        x -= 0.1 * shown
    return sum(apart) / np.mean(size), trace, (x, shown)


def test_states_go_on_from_window_to_window():
    """Both optimizers'; the derivative, by differences in float64, is the window's own."""
    estimator = imitation(
        BOWL, DECAY, optax.sgd(0.1, momentum=0.5), num_tasks=1, episode_length=4, unroll_length=2
    )
    m = jnp.float32(0.7)
    state = estimator.init(jax.random.key(0), m)
    trace, path = 0.0, (1.0, 0.0)
    for _ in range(2):
        loss, grad, state, _ = ESTIMATE(estimator, m, state, jax.random.key(1))
        ends = [momentum_window(0.7 + h, trace, path)[0] for h in (1e-6, -1e-6)]
        expected, trace, path = momentum_window(0.7, trace, path)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        np.testing.assert_allclose(grad, (ends[0] - ends[1]) / 2e-6, rtol=1e-4)


def test_a_teacher_that_stands_still_for_a_window_is_no_divergence():
    """One update for three gradients, in windows of two steps, and none in the first: no loss."""
    teacher = optax.MultiSteps(optax.sgd(0.1), 3).gradient_transformation()
    estimator = imitation(
        quadratic(2), lstm((2,)), teacher, num_tasks=2, episode_length=6, unroll_length=2
    )
    meta_params = lstm((2,)).init(jax.random.key(0))
    state, losses = estimator.init(jax.random.key(1), meta_params), []
    for seed in range(3):
        loss, grads, state, metrics = estimator.estimate(meta_params, state, jax.random.key(seed))
        losses.append(float(loss))
        assert (metrics["diverged_at"] == -1).all()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert losses[0] == 0
    assert min(losses[1:]) > 0


def test_the_teacher_is_learned_and_gone_on_from():
    """As the first stage of a curriculum: from 0.3 to the teacher's 0.2, then elsewhere."""
    windows = {"num_tasks": 1, "episode_length": 2, "unroll_length": 2}
    shown = imitation(BOWL, RATE, optax.sgd(0.2), **windows)
    estimator = curriculum([(1, shown), (None, truncated_bptt(BOWL, RATE, **windows))])
    # the loss is a parabola of curvature 2 K / q^2 = 100: one step of 1 / 100 is there
    found = [
        meta_train(
            e, optax.sgd(0.01), jnp.float32(0.3), jax.random.key(0), num_meta_updates=n
        ).meta_params
        for e, n in ((estimator, 1), (estimator, 3))
    ]
    np.testing.assert_allclose(found[0], 0.2, rtol=1e-5)
    assert found[1] > 0.25  # steeper descent lowers the loss
    mixed = mixture({"shown": shown, "own": truncated_bptt(BOWL, RATE, **windows)})
    state = mixed.init(jax.random.key(0), jnp.float32(0.3))
    assert np.isfinite(ESTIMATE(mixed, jnp.float32(0.3), state, jax.random.key(1))[0])


def test_a_configuration_names_the_teacher():
    config = experiments.DEFAULTS | {
        "num_meta_updates": 6,
        "num_tasks": 2,
        "task": {"name": "quadratic", "dim": 2},
        "optimizer": {"name": "lstm", "hidden_sizes": (2,)},
        "estimator": {
            "name": "imitation",
            "teacher": {"name": "optax:adam", "learning_rate": 0.1},
            "follow": "learner",
        },
        "validation": {"num_tasks": 2, "every": 3},
        "evaluation": {"num_tasks": 2, "num_steps": 4, "num_tuning_tasks": 2},
    }
    estimator = experiments.build(config).estimator
    assert (estimator.follow, estimator.episode_length) == ("learner", 100)
    # Adam's first step has the size of its rate
    update, _ = estimator.teacher.update(jnp.ones(2), estimator.teacher.init(jnp.ones(2)))
    np.testing.assert_allclose(update, -0.1, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"teacher": "adam"}, TypeError, "teacher"),
        ({"follow": "nobody"}, ValueError, "follow must be one of"),
        ({"episode_length": 3}, ValueError, "does not divide episode_length=3"),
        ({"weights": [1]}, ValueError, r"shape \(4,\)"),
        ({"stagger": 1}, TypeError, "stagger"),
    ],
)
def test_bad_options_are_refused(options, error, words):
    settings = {
        "teacher": optax.sgd(0.1), "num_tasks": 1, "episode_length": 4, "unroll_length": 2,
    } | options  # fmt: skip
    with pytest.raises(error, match=words):
        imitation(BOWL, RATE, **settings)
