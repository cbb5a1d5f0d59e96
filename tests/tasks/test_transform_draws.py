"""What transforms draw is independent of what is within them, and of one another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax import Task
from l2ljax.tasks import image_mlp, quadratic, teacher, valley
from l2ljax.tasks.data import Images
from l2ljax.tasks.suite import tasks
from l2ljax.tasks.transforms import (
    convex_helper,
    es_gradients,
    noisy_gradients,
    noisy_labels,
    random_scale,
    scale_loss,
)

KEYS = jax.random.split(jax.random.key(0), 2000)
BOWL = Task(init=lambda _, key: jnp.ones(3), loss=lambda x, _: jnp.sum(x**2))
DIGITS = Images(jnp.zeros((50, 4, 4, 1), jnp.uint8), jnp.zeros(50, jnp.int32))


def instances(task):
    return jax.vmap(lambda key: task.sample(task.data, key))(KEYS)


def correlation(first, second):
    return np.corrcoef(np.ravel(first), np.ravel(second))[0, 1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: scale_loss(random_scale(quadratic(2), 1e-3, 1e3), 1e-3, 1e3),
        lambda: random_scale(random_scale(BOWL, 1e-3, 1e3), 1e-3, 1e3),
        lambda: scale_loss(scale_loss(valley(3), 1e-3, 1e3), 1e-3, 1e3),
    ],
)
def test_two_factors_are_a_square_of_them_and_not_a_line(make):
    """The correlation of 2,000 independent pairs is beyond 0.09 once in some 17,000 times."""
    outer = instances(make())
    assert abs(correlation(jnp.log(outer.extra), jnp.log(outer.inner.extra))) < 0.09


@pytest.mark.parametrize("inner", [lambda: quadratic(2), lambda: valley(3), teacher])
def test_a_factor_is_no_function_of_what_the_task_draws(inner):
    """Splitting a key, as tasks do, gives the keys that folding a number into it gives."""
    found = instances(random_scale(inner(), 1e-3, 1e3))
    for leaf in jax.tree.leaves(found.inner):
        numbers = jnp.reshape(leaf, (len(KEYS), -1))[:, :3]
        for column in numbers.T:
            if jnp.std(column) > 0:
                ranks = jnp.argsort(jnp.argsort(column))
                assert abs(correlation(ranks, jnp.log(found.extra))) < 0.09


def test_a_helper_starts_elsewhere_than_the_task():
    second = lambda _, key: jax.random.uniform(jax.random.split(key)[1], (20,), minval=-1.0)  # noqa: E731
    task = convex_helper(Task(init=second, loss=BOWL.loss), dim=20)
    params = task.init(task.sample(task.data, KEYS[0]), KEYS[1])
    assert abs(correlation(params["task"], params["helper"])) < 0.9


def slope(task, key):
    batch = task.batch(task.data, task.sample(task.data, key), key)
    return jax.grad(task.loss)(jnp.zeros(3), batch)


def test_noise_twice_has_the_variance_of_two_noises():
    """At a minimum the gradient is noise alone: 0.1 sqrt(2) in place of 0.2; within 5 %."""
    twice = noisy_gradients(noisy_gradients(BOWL, 0.1), 0.1)
    found = jax.vmap(lambda key: slope(twice, key))(KEYS)
    assert np.std(found) == pytest.approx(0.1 * 2**0.5, rel=0.05)


def test_noise_is_none_of_the_perturbations_within():
    """The estimate of a plane's slope, and the noise on it."""
    plane = Task(init=lambda _, key: jnp.ones(3), loss=lambda x, _: jnp.sum(x))
    clean = es_gradients(plane, 1)
    noisy = noisy_gradients(clean, 1.0)
    estimates, sums = (jax.vmap(lambda key, t=t: slope(t, key))(KEYS) for t in (clean, noisy))
    assert abs(correlation(estimates, sums - estimates)) < 0.09


def test_labels_made_wrong_twice_are_wrong_as_often_as_independent_ones():
    """Each time half of them are drawn anew among 1,000: a quarter stay as they are."""
    task = noisy_labels(noisy_labels(image_mlp(DIGITS, (), num_classes=1000), 0.5, 1000), 0.5, 1000)
    draw = jax.vmap(lambda key: task.batch(task.data, (), key).labels)
    assert np.mean(draw(KEYS[:200]) == 0) == pytest.approx(0.25, abs=0.02)


def test_wrong_labels_are_no_function_of_the_units_that_are_dropped():
    """`image_mlp` folds 1 into a minibatch's key for its dropout, so that noise takes 2."""
    inner = image_mlp(DIGITS, (4,), dropout=0.5, num_classes=10)
    task = noisy_labels(inner, 0.5, 10)
    key = task.batch(task.data, (), KEYS[0]).key
    dropped = jax.random.bernoulli(jax.random.fold_in(key, 0), 0.5, (128,))
    wrong = task.batch(task.data, (), KEYS[0]).labels != 0
    assert (wrong & ~dropped).any()


def test_tasks_of_the_suite_draw_what_they_always_drew():
    """A held-out task does not move: its factor and perturbations are of the key with 1 in it."""
    scaled = tasks("held_out")["digits-relu-small-scale"]
    found = scaled.sample(scaled.data, KEYS[0]).extra
    exponent = jax.random.uniform(
        jax.random.fold_in(KEYS[0], 1), (), minval=jnp.log(0.01), maxval=jnp.log(0.1)
    )
    assert found == pytest.approx(float(jnp.exp(exponent)), rel=1e-5)
    estimated = es_gradients(image_mlp(DIGITS), 1)
    batch = estimated.batch(estimated.data, (), KEYS[0])
    expected = image_mlp(DIGITS).batch(DIGITS, (), KEYS[0])
    assert (batch.extra == jax.random.fold_in(KEYS[0], 1)).all()
    assert (batch.inner.labels == expected.labels).all()
