"""Task -> Task: what each transform changes, against the inner task's own values."""

import dataclasses

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import l2ljax
from l2ljax import Task
from l2ljax.tasks import mlp, quadratic
from l2ljax.tasks.transforms import (
    as_task,
    convex_helper,
    es_gradients,
    noisy_gradients,
    noisy_labels,
    random_scale,
    scale_loss,
)
from l2ljax.unrolling import sample_optimizee

KEY = jax.random.key(0)
TWO = Task(
    init=lambda _, key: {"a": jax.random.normal(key, (3,)), "b": jnp.ones(2)},
    loss=lambda p, _: jnp.sum(p["a"] ** 2) + jnp.sum(jnp.sin(p["b"])),
)


def drawn(task, key=KEY):
    """An instance, theta_0 and a batch."""
    instance = task.sample(task.data, key)
    return instance, task.init(instance, key), task.batch(task.data, instance, key)


@pytest.mark.parametrize("per_tensor", [False, True])
def test_random_scale_is_the_same_function_in_other_units(per_tensor):
    """f(s theta) at theta_0 / s is f(theta_0), and its gradient is s times as large."""
    task = random_scale(TWO, 1e-2, 1e2, per_tensor=per_tensor)
    _, params, batch = drawn(task)
    inner = TWO.init((), KEY)
    scales = jax.tree.map(lambda x, y: x.ravel()[0] / y.ravel()[0], inner, params)
    np.testing.assert_allclose(task.loss(params, batch), TWO.loss(inner, ()), rtol=1e-5)
    gradients = jax.grad(task.loss)(params, batch)
    for name, expected in jax.grad(TWO.loss)(inner, ()).items():
        np.testing.assert_allclose(gradients[name], scales[name] * expected, rtol=1e-4)
    assert np.isclose(scales["a"], scales["b"], rtol=1e-5) != per_tensor


def test_scales_are_log_uniform_and_differ_from_optimizee_to_optimizee():
    task = random_scale(TWO, 1e-3, 1e3)
    keys = jax.random.split(KEY, 2000)
    logs = np.log10(jax.vmap(lambda k: task.sample((), k).extra)(keys))
    assert logs.min() >= -3.0001
    assert logs.max() <= 3.0001
    # uniform on [-3, 3]: mean 0 and variance 3, each within 5 standard errors
    assert abs(logs.mean()) < 5 * np.sqrt(3 / 2000)
    assert abs(logs.var() - 3) < 5 * np.sqrt((9 / 5 - 1) * 9 / 2000)


def test_scale_loss_multiplies_value_and_gradient():
    task = scale_loss(quadratic(dim=3), 7.0)
    _, params, batch = drawn(task)
    value, gradient = jax.value_and_grad(task.loss)(params, batch)
    inner_value, inner = jax.value_and_grad(quadratic(dim=3).loss)(params, batch.inner)
    np.testing.assert_allclose(value, 7 * inner_value, rtol=1e-5)
    np.testing.assert_allclose(gradient, 7 * inner, rtol=1e-5)


@pytest.mark.parametrize("relative", [False, True])
def test_gradient_noise_has_its_size_and_no_mean_and_leaves_the_loss_alone(relative):
    task = noisy_gradients(TWO, 0.5, relative=relative)
    params = TWO.init((), KEY)
    exact_value, exact = jax.value_and_grad(TWO.loss)(params, ())

    def one(key):
        return jax.value_and_grad(task.loss)(params, task.batch((), (), key))

    values, gradients = jax.vmap(one)(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(values, exact_value, rtol=1e-6)
    for name, noisy in gradients.items():
        unit = np.sqrt(np.mean(np.square(exact[name]))) if relative else 1.0
        error = 0.5 * unit / np.sqrt(4000)
        np.testing.assert_allclose(noisy.mean(0), exact[name], atol=5 * error)
        np.testing.assert_allclose(noisy.std(0), 0.5 * unit, rtol=0.08)


def test_es_gradients_of_a_linear_function_have_the_slope_as_mean():
    """E[epsilon (epsilon . a)] / sigma^2 = a; the variance of its component j is a_j^2 + |a|^2."""
    slope = jnp.array([1.0, -2.0, 0.5])
    linear = Task(init=lambda _, key: jnp.zeros(3), loss=lambda x, _: jnp.dot(slope, x))
    task = es_gradients(linear, num_pairs=4, sigma=0.1)

    def one(key):
        return jax.value_and_grad(task.loss)(jnp.ones(3), task.batch((), (), key))

    values, estimates = jax.vmap(one)(jax.random.split(KEY, 2000))
    np.testing.assert_allclose(values, slope.sum(), atol=1e-5)  # pairs are antithetic
    errors = np.sqrt((slope**2 + jnp.sum(slope**2)) / (4 * 2000))
    assert np.all(np.abs(estimates.mean(0) - slope) < 4 * errors)
    np.testing.assert_allclose(estimates.var(0), (slope**2 + jnp.sum(slope**2)) / 4, rtol=0.15)


def test_convex_helper_adds_a_parabola_around_a_random_point():
    task = convex_helper(TWO, dim=5)
    instance, params, batch = drawn(task)
    assert jnp.abs(instance.extra).max() <= 1
    gradient = jax.grad(task.loss)(params, batch)
    np.testing.assert_allclose(
        gradient["helper"], 2 * (params["helper"] - instance.extra) / 5, rtol=1e-5
    )
    solved = {"task": params["task"], "helper": instance.extra}
    np.testing.assert_allclose(task.loss(solved, batch), TWO.loss(params["task"], ()), rtol=1e-6)


def test_noisy_labels_change_the_share_that_they_should():
    """Each differs with probability share (1 - 1/C); images stay as they are."""
    images = jnp.arange(40.0).reshape(40, 1, 1, 1)
    clean = mlp((images, jnp.arange(40) % 4), batch_size=5000)
    task = noisy_labels(clean, 0.4, num_classes=4)
    before, after = (t.batch(t.data, (), KEY) for t in (clean, task))
    np.testing.assert_array_equal(before.images, after.images)
    changed = np.mean(before.labels != after.labels)
    assert abs(changed - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 5000)
    assert after.labels.dtype == before.labels.dtype


def test_noisy_labels_refuse_batches_without_labels():
    task = noisy_labels(quadratic(), 0.5, num_classes=2)
    with pytest.raises(ValueError, match="field labels"):
        drawn(task)


def test_a_transformed_task_is_traced_once():
    """Whatever is drawn: scales are arrays."""
    task = random_scale(noisy_gradients(quadratic(dim=2), 0.1), 0.1, 10.0)

    @jax.jit
    @chex.assert_max_traces(1)
    def start(task, key):
        instance = task.sample(task.data, key)
        params = task.init(instance, key)
        return jax.grad(task.loss)(params, task.batch(task.data, instance, key))

    gradients = [start(task, jax.random.key(seed)) for seed in range(3)]
    chex.assert_trees_all_equal_shapes_and_dtypes(*gradients)
    chex.assert_tree_all_finite(gradients)


def test_transforms_compose_and_an_optimizer_of_the_scale_follows():
    """SGD with rate r / s^2 on f(s theta) takes the steps of SGD with rate r on f."""
    scale = 10.0
    task = scale_loss(random_scale(TWO, scale, scale), 3.0)
    losses = l2ljax.evaluate(task, optax.sgd(0.05 / scale**2 / 3), KEY, num_tasks=2, num_steps=5)
    inner = l2ljax.evaluate(TWO, optax.sgd(0.05), KEY, num_tasks=2, num_steps=5)
    np.testing.assert_allclose(losses / 3, inner, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: random_scale(TWO, 0.0, 1.0), "0 < low|positive"),
        (lambda: scale_loss(TWO, 2.0, 1.0), "in order"),
        (lambda: noisy_gradients(TWO, -1.0), "stddev"),
        (lambda: noisy_labels(TWO, 1.5, 10), "probability"),
        (lambda: es_gradients(TWO, 0), "num_pairs"),
        (lambda: as_task(lambda m, b: m, lambda key: {"n": 3}), "floating-point arrays"),
        (lambda: as_task(lambda m, b: m, lambda key: jnp.ones(1), batch_size=4), "needs data"),
        (lambda: as_task(lambda m, b: m, lambda key: jnp.ones(1), jnp.ones((0, 2))), "one row"),
        (
            lambda: as_task(lambda m, b: m, lambda key: jnp.ones(1), (jnp.ones(2), jnp.ones(3))),
            "same leading axis",
        ),
    ],
)
def test_what_no_transform_takes_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


X = jnp.linspace(-1, 1, 16)[:, None]
DATA = (X, jnp.sin(3 * X))


class NnxModel(nnx.Module):
    """A layer, dropout's random state and a counter: only the layer is trained."""

    def __init__(self, key):
        rngs = nnx.Rngs(key)
        self.hidden = nnx.Linear(1, 8, rngs=rngs)
        self.out = nnx.Linear(8, 1, rngs=rngs)
        self.calls = nnx.Variable(jnp.zeros([], jnp.int32))

    def __call__(self, x):
        return self.out(jnp.tanh(self.hidden(x)))


def equinox_model(key):
    return eqx.nn.MLP(1, 1, 8, 1, activation=jnp.tanh, key=key)


def squared(model, batch):
    x, y = batch
    return jnp.mean((model(x) - y) ** 2)


def squared_each(model, batch):
    x, y = batch
    return jnp.mean((jax.vmap(model)(x) - y) ** 2)


@pytest.mark.parametrize(
    ("loss", "init"), [(squared, NnxModel), (squared_each, equinox_model)], ids=["nnx", "equinox"]
)
def test_as_task_trains_modules(loss, init):
    """theta_0 is the module's own, 25 numbers are trained, and the module's loss is the task's."""
    task = as_task(loss, init, DATA)
    _, params, batch = drawn(task)
    assert sum(leaf.size for leaf in params) == 25
    np.testing.assert_allclose(task.loss(params, batch), loss(init(KEY), DATA), rtol=1e-5)
    losses = l2ljax.evaluate(task, optax.adam(0.05), KEY, num_tasks=2, num_steps=60)
    assert np.all(losses[:, -1] < 0.2 * losses[:, 0])


def test_as_task_draws_rows_together():
    """Each minibatch pairs an x with its own y."""
    task = as_task(lambda w, batch: jnp.sum(w), lambda key: jnp.ones(1), (X, 2 * X), batch_size=7)
    _, _, batch = drawn(task)
    assert batch.rows[0].shape == (7, 1)
    np.testing.assert_allclose(batch.rows[1], 2 * batch.rows[0])


def test_as_task_draws_rows_of_the_data_that_it_is_given():
    """Of fewer or more than it was made with: each is drawn, and no other."""
    task = as_task(
        lambda w, batch: jnp.sum(w), lambda key: jnp.ones(1), jnp.arange(5), batch_size=99
    )
    for length in (2, 11):
        other = dataclasses.replace(task, data=jnp.arange(length))
        rows = other.batch(other.data, (), jax.random.key(0)).rows
        assert set(rows.tolist()) == set(range(length))


def test_as_task_makes_all_of_a_model_with_one_key():
    """A mask, which is not trained, and the weights that it was drawn with; theta_0 is fresh."""

    def init(key):
        weights = jax.random.normal(key, (6,))
        return {"w": weights, "mask": weights > 0}

    task = as_task(lambda model, batch: jnp.sum(model["w"] * model["mask"]), init)
    keys = jax.random.split(jax.random.key(3), 5)
    instances, starts = jax.vmap(lambda key: sample_optimizee(task, key))(keys)
    np.testing.assert_array_equal(instances.arrays[0], starts[0] > 0)
    assert len(np.unique(starts[0][:, 0])) == 5
