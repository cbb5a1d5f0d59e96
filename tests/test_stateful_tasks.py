"""Tasks with state, and tasks whose data stay on the host."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree

import l2ljax
from l2ljax.base import Running

KEY = jax.random.key(0)
OPTIMIZER = l2ljax.lstm((2,))
META_PARAMS = OPTIMIZER.init(KEY)
WINDOW = {"num_tasks": 2, "episode_length": 4, "unroll_length": 2}


def counted():
    """f_t(x) = (t + 1) x^2 / 2, where t is how often the loss made a step."""

    def loss(x, batch):
        _, step = batch
        return (step + 1) * x**2 / 2, step + 1

    return l2ljax.Task(
        init=lambda instance, key: jnp.float32(1.0),
        init_state=lambda instance, key: jnp.float32(0.0),
        loss=loss,
    )


def normalised():
    """A linear model of nnx behind BatchNorm, whose running averages are the task's state."""

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(3, momentum=0.5, rngs=rngs)
            self.linear = nnx.Linear(3, 1, rngs=rngs)

        def __call__(self, x):
            return self.linear(self.norm(x))

    def parts(key):
        return nnx.split(Model(nnx.Rngs(key)), nnx.Param, ...)

    structure = jax.eval_shape(lambda: parts(KEY)[1:]) and parts(KEY)[0]

    def loss(params, batch):
        x, state = batch
        model = nnx.merge(structure, params, state, copy=True)
        value = jnp.mean((model(x) - x.sum(axis=1, keepdims=True)) ** 2)
        return value, nnx.split(model, nnx.Param, ...)[2]

    return l2ljax.Task(
        init=lambda instance, key: parts(key)[1],
        init_state=lambda instance, key: parts(key)[2],
        batch=lambda data, instance, key: 1 + jax.random.normal(key, (8, 3)),
        loss=loss,
    )


def equinox_normalised():
    """The same of Equinox."""

    def parts(key):
        model, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(
            3, "batch", mode="ema", momentum=0.5
        )
        linear = eqx.nn.Linear(3, 1, key=key)
        return eqx.partition((model, linear), eqx.is_inexact_array), state

    (_, static), _ = parts(KEY)

    def loss(params, batch):
        x, state = batch
        norm, linear = eqx.combine(params, static)

        def one(x, state):
            x, state = norm(x, state)
            return linear(x), state

        out, state = jax.vmap(one, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(
            x, state
        )
        return jnp.mean((out - x.sum(axis=1, keepdims=True)) ** 2), state

    return l2ljax.Task(
        init=lambda instance, key: parts(key)[0][0],
        init_state=lambda instance, key: parts(key)[1],
        batch=lambda data, instance, key: 1 + jax.random.normal(key, (8, 3)),
        loss=loss,
    )


def test_the_state_goes_from_step_to_step():
    """x_1 = 0.9, x_2 = 0.8 x_1, x_3 = 0.7 x_2 at rate 0.1; the last loss is read, not stepped."""
    tx = optax.sgd(0.1)
    start = l2ljax.init_optimizee(counted(), tx, KEY)
    after, losses = l2ljax.unroll(counted(), tx, start, KEY, 3)
    x = np.cumprod([1.0, 0.9, 0.8, 0.7])
    np.testing.assert_allclose(losses, [(t + 1) * x[t] ** 2 / 2 for t in range(4)], rtol=1e-6)
    assert isinstance(after.instance, Running)
    assert after.instance.state == 3
    evaluated = l2ljax.evaluate(counted(), tx, KEY, num_tasks=2, num_steps=3)
    np.testing.assert_allclose(evaluated, [losses, losses], rtol=1e-6)


def test_windows_of_truncated_bptt_carry_it():
    """Losses of two windows are those of one unroll, and a new episode starts from new state."""
    estimator = l2ljax.truncated_bptt(counted(), OPTIMIZER, **WINDOW)
    assert estimator.backward == "scan"
    state, found = estimator.init(KEY, META_PARAMS), []
    estimate = jax.jit(type(estimator).estimate)
    for update in range(3):
        _, grads, state, metrics = estimate(estimator, META_PARAMS, state, jax.random.key(update))
        found.append(metrics["losses"])
        assert jnp.isfinite(ravel_pytree(grads)[0]).all()
        assert state.optimizees.instance.state.tolist() == [[2, 2], [4, 4], [2, 2]][update]
    tx = OPTIMIZER.transform(META_PARAMS)
    start = l2ljax.init_optimizee(counted(), tx, KEY)
    _, losses = l2ljax.unroll(counted(), tx, start, KEY, 4)
    np.testing.assert_allclose(found[0], losses[:3], rtol=1e-5)
    np.testing.assert_allclose(found[1], losses[2:], rtol=1e-5)
    np.testing.assert_allclose(found[2], losses[:3], rtol=1e-5)


def test_the_state_is_a_constant_of_the_meta_gradient():
    """A state x -> x_t that the next loss multiplies: dL/du_0 counts f_1 through theta_1 alone."""
    task = l2ljax.Task(
        init=lambda instance, key: jnp.float32(2.0),
        init_state=lambda instance, key: jnp.float32(1.0),
        loss=lambda x, batch: (batch[1] * x, x),
    )

    def total(step, second_derivatives):
        tx = optax.GradientTransformation(optax.init_empty_state, lambda g, s, p=None: (step, s))
        start = l2ljax.init_optimizee(task, tx, KEY)
        options = {"second_derivatives": second_derivatives}
        return l2ljax.unroll(task, tx, start, KEY, 2, **options)[1][1:].sum()

    # f_1 = x_0 x_1 and f_2 = x_1 x_2, where x_1 = 2 + u and x_2 = 2 + 2 u, at u = 0.
    assert jax.grad(total)(jnp.float32(0.0), False) == 2 + 2 * 2
    assert jax.grad(total)(jnp.float32(0.0), True) == 2 + 2 * 2 + 2


@pytest.mark.parametrize(
    ("task", "start_at_zero"),
    [(normalised(), True), (equinox_normalised(), False)],
    ids=["nnx", "equinox"],
)
def test_running_averages_of_a_library(task, start_at_zero):
    """At momentum 1/2 each step's batch counts for half: the mean of the last losses not."""
    tx = optax.sgd(0.01)
    start = l2ljax.init_optimizee(task, tx, KEY)
    after, losses = jax.jit(lambda s: l2ljax.unroll(task, tx, s, KEY, 3))(start)
    assert jnp.isfinite(losses).all()
    averages = [
        leaf
        for leaf in jax.tree.leaves(after.instance.state)
        if jnp.shape(leaf) == (3,) and not np.allclose(leaf, 0)
    ]
    assert averages
    means = [task.batch((), (), k).mean(axis=0) for k in jax.random.split(KEY, 4)[:3]]
    mean = jnp.zeros(3) if start_at_zero else means[0]  # Equinox starts from its first batch
    for batch_mean in means:
        mean = 0.5 * mean + 0.5 * batch_mean
    assert any(np.allclose(leaf, mean, rtol=1e-4) for leaf in averages)


@pytest.mark.parametrize("task", [normalised(), equinox_normalised()], ids=["nnx", "equinox"])
@pytest.mark.long
def test_meta_training_on_them(task):
    """Two updates and an evaluation."""
    estimator = l2ljax.truncated_bptt(task, OPTIMIZER, **WINDOW)
    result = l2ljax.meta_train(estimator, optax.sgd(0.1), META_PARAMS, KEY, num_meta_updates=2)
    tx = OPTIMIZER.transform(result.meta_params)
    assert jnp.isfinite(l2ljax.evaluate(task, tx, KEY, num_tasks=2, num_steps=2)).all()


def test_what_does_not_fit_is_refused():
    """The recorded pass, and losses that return too little or another state."""
    with pytest.raises(ValueError, match="but this task has state; use backward"):
        l2ljax.truncated_bptt(counted(), OPTIMIZER, backward="recorded", **WINDOW)
    for loss, words in (
        (lambda x, batch: x, "must return \\(loss, next state\\), got a "),
        (lambda x, batch: (x, jnp.ones(2)), "the state that the task's loss returns has shape"),
    ):
        with pytest.raises(ValueError, match=words):
            l2ljax.evaluate(
                dataclasses.replace(counted(), loss=loss),
                optax.sgd(0.1),
                KEY,
                num_tasks=1,
                num_steps=1,
            )


@pytest.mark.parametrize("start", [jnp.int32(0), jnp.array(True), np.int64(0)])
def test_floats_are_not_cut_to_the_integers_that_a_state_began_with(start):
    """A running mean that begins as 0 would stay 0; the leaf is named, and the way out."""
    averaged = dataclasses.replace(
        counted(),
        init_state=lambda instance, key: {"mean": jnp.asarray(start)},
        loss=lambda x, batch: (x**2, {"mean": 0.5 * batch[1]["mean"] + 0.5 * x}),
    )
    words = "dtype float32 at mean, where init_state returns .*; let init_state return float arrays"
    with pytest.raises(TypeError, match=words):
        l2ljax.evaluate(averaged, optax.sgd(0.1), KEY, num_tasks=1, num_steps=1)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.int32])
def test_a_state_keeps_its_own_dtype(dtype):
    """Floats of another precision and integers of another width are cast back: f_1 = 2 x^2 / 2."""
    wider = {jnp.float16: jnp.float32, jnp.int32: jnp.int16}[dtype]
    cast = dataclasses.replace(
        counted(),
        init_state=lambda instance, key: jnp.zeros((), dtype),
        loss=lambda x, batch: ((batch[1] + 1) * x**2 / 2, (batch[1] + 1).astype(wider)),
    )
    losses = l2ljax.evaluate(cast, optax.sgd(0.0), KEY, num_tasks=1, num_steps=2)
    np.testing.assert_allclose(losses, [[0.5, 1.0, 1.5]], rtol=1e-6)


def test_data_may_stay_on_the_host():
    """Minibatches by `jax.pure_callback`: the same for equal keys, read in every step."""
    images = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    asked = []

    def load(number):
        asked.append(int(number))
        return images[np.random.default_rng(int(number)).integers(0, 1000, 4)]

    task = l2ljax.Task(
        init=lambda instance, key: jnp.zeros(3),
        batch=lambda data, instance, key: jax.pure_callback(
            load,
            jax.ShapeDtypeStruct((4, 3), jnp.float32),
            jax.random.bits(key),
            vmap_method="sequential",
        ),
        loss=lambda mean, batch: jnp.mean((batch - mean) ** 2),
    )
    losses = l2ljax.evaluate(task, optax.sgd(0.0), KEY, num_tasks=2, num_steps=2)
    expected = [np.mean(images[np.random.default_rng(n).integers(0, 1000, 4)] ** 2) for n in asked]
    np.testing.assert_allclose(np.sort(losses.ravel()), np.sort(expected), rtol=1e-5)
    with pytest.raises(TypeError, match=r"let batch call a loader by jax\.pure_callback"):
        l2ljax.evaluate(
            dataclasses.replace(task, data=iter(images)),
            optax.sgd(0.0),
            KEY,
            num_tasks=1,
            num_steps=1,
        )


@pytest.mark.long
def test_meta_training_on_data_of_the_host():
    """In the recorded pass, whose rollout asks the host in each step."""
    images = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    task = l2ljax.Task(
        init=lambda instance, key: jnp.zeros(3),
        batch=lambda data, instance, key: jax.pure_callback(
            lambda number: images[int(number) % 1000],
            jax.ShapeDtypeStruct((3,), jnp.float32),
            jax.random.bits(key),
            vmap_method="sequential",
        ),
        loss=lambda mean, batch: jnp.mean((batch - mean) ** 2),
    )
    estimator = l2ljax.truncated_bptt(task, OPTIMIZER, **WINDOW)
    assert estimator.backward == "recorded"
    result = l2ljax.meta_train(estimator, optax.sgd(0.1), META_PARAMS, KEY, num_meta_updates=2)
    assert result.num_skipped == 0


@pytest.mark.parametrize("name", ["es", "pes", "nres", "full_es"])
def test_evolution_strategies_refuse_a_task_with_state(name):
    """In a sentence; the advice, backpropagation, serves it."""
    make = getattr(l2ljax, name)
    options = dict(WINDOW)
    if name == "full_es":
        del options["unroll_length"]
    with pytest.raises(ValueError, match="init_state, such as running averages; train on it with"):
        make(counted(), OPTIMIZER, num_perturbations=2, sigma=0.1, **options)
    estimator = l2ljax.truncated_bptt(counted(), OPTIMIZER, **WINDOW)
    loss, *_ = estimator.estimate(META_PARAMS, estimator.init(KEY, META_PARAMS), KEY)
    assert np.isfinite(loss)
