"""`evaluate` and `rollouts`: what they return, compile, keep and hold in memory."""

import gc
import weakref

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.base import LearnedOptimizer, Task
from l2ljax.evaluation import evaluate, rollouts, tune
from l2ljax.evaluation._programs import num_kept, program
from l2ljax.evaluation._rollouts import Sizes, _plain, _run, task_parts
from l2ljax.optimizers import lstm
from l2ljax.tasks import mlp, quadratic
from l2ljax.tasks.data import Images
from l2ljax.unrolling import init_optimizee, unroll

PARABOLA = Task(init=lambda _, key: jax.random.normal(key), loss=lambda x, _: x**2)
SIZES = {"num_tasks": 2, "num_steps": 3}
COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: COMPILED.append(name) if "backend_compile" in name else None
)


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


def test_a_pair_is_its_transformation():
    """`(optimizer, meta_params)` and `optimizer.transform(meta_params)` give the same losses."""
    optimizer, key = lstm((3,)), jax.random.key(0)
    meta_params = optimizer.init(key)
    pair = evaluate(quadratic(2), (optimizer, meta_params), key, **SIZES)
    alone = evaluate(quadratic(2), optimizer.transform(meta_params), key, **SIZES)
    np.testing.assert_allclose(pair, alone, rtol=1e-5)
    assert rollouts(quadratic(2), (optimizer, meta_params), key, **SIZES)[0].shape == (2, 2)


def test_other_weights_of_an_architecture_compile_nothing():
    """The same builder with equal arguments, other weights, another key: no trace, no program."""
    task, key = quadratic(2), jax.random.key(0)
    checkpoints = [lstm((3,)).init(jax.random.key(i)) for i in range(3)]
    first = evaluate(task, (lstm((3,)), checkpoints[0]), key, **SIZES)
    other_key = jax.random.key(1)
    before = len(COMPILED), num_kept()
    others = [evaluate(task, (lstm((3,)), each), other_key, **SIZES) for each in checkpoints[1:]]
    assert (len(COMPILED), num_kept()) == before
    assert not np.allclose(others[0][:, 1:], others[1][:, 1:])
    assert not np.allclose(first[:, 1:], others[0][:, 1:])


@pytest.mark.parametrize("how", ["vmap", "map"])
def test_a_sweep_over_checkpoints_is_one_program(how):
    """One trace of the rule for all checkpoints; each as if evaluated alone."""
    chex.clear_trace_counter()  # it counts by name, over all cases

    @chex.assert_max_traces(1)
    def transform(log_rate):
        return optax.scale(-jnp.exp(log_rate))

    optimizer = LearnedOptimizer(lambda key: jnp.zeros(()), transform)
    rates, key = jnp.log(jnp.array([0.1, 0.2, 0.3])), jax.random.key(0)

    def losses(log_rate):
        return evaluate(PARABOLA, (optimizer, log_rate), key, **SIZES)

    swept = jax.jit(jax.vmap(losses) if how == "vmap" else lambda all_: jax.lax.map(losses, all_))
    found = swept(rates)
    contraction = (1 - 2 * np.exp(rates)) ** 2
    powers = contraction[:, None] ** np.arange(4)
    np.testing.assert_allclose(found, found[:, :, :1] * powers[:, None], rtol=1e-4, atol=1e-9)


def test_a_transformation_is_compiled_once_and_goes_with_its_program():
    """Evaluated twice, one compilation; collected, neither it nor its program is left."""
    key, before = jax.random.key(0), num_kept()
    optimizer = lstm((3,))
    watched = []
    for seed in range(2):
        tx = optimizer.transform(optimizer.init(jax.random.key(seed)))
        evaluate(PARABOLA, tx, key, **SIZES)
        compiled = len(COMPILED)
        evaluate(PARABOLA, tx, key, **SIZES)
        assert len(COMPILED) == compiled
        watched.append(weakref.ref(tx.update))
    del tx
    gc.collect()
    assert [ref() for ref in watched] == [None] * 2
    assert num_kept() == before


def test_tasks_and_rates_do_not_pile_up_either():
    """A task or a function of the rate that is made anew each time is dropped with its program."""
    before = num_kept()
    for _ in range(2):
        task = Task(init=lambda _, key: jnp.ones(()), loss=lambda x, _: x**2)
        evaluate(task, optax.sgd(0.1), jax.random.key(0), **SIZES)
        rates = (0.1, 0.4, 0.8)
        tune(task, lambda rate: optax.sgd(rate), rates, jax.random.key(0), **SIZES)
    del task
    gc.collect()
    assert num_kept() == before


def test_transformations_that_share_a_part_are_told_apart():
    """Equal `update`, another `init`: the state differs, and so do the losses."""

    def update(updates, state, params=None):
        return jax.tree.map(lambda g: -state * g, updates), state

    first = optax.GradientTransformation(lambda params: jnp.float32(0.1), update)
    second = optax.GradientTransformation(lambda params: jnp.float32(0.4), update)
    ratios = []
    for tx in (first, second):
        losses = evaluate(PARABOLA, tx, jax.random.key(0), **SIZES)
        ratios.append(float(losses[0, 1] / losses[0, 0]))
    np.testing.assert_allclose(ratios, [0.8**2, 0.2**2], rtol=1e-5)


def test_an_object_with_init_and_update_is_a_transformation():
    """`optax.MultiSteps` is no NamedTuple: two steps of the mean gradient, every second."""
    tx = optax.MultiSteps(optax.sgd(0.25), every_k_schedule=2)
    losses = np.asarray(evaluate(PARABOLA, tx, jax.random.key(0), num_tasks=1, num_steps=4))[0]
    np.testing.assert_allclose(losses / losses[0], [1, 1, 1 / 4, 1 / 4, 1 / 16], rtol=1e-5)


def test_lookahead_has_its_two_copies():
    """Zhang et al. (2019) by hand: fast steps, every second the slow copy goes half the way."""
    tx = optax.lookahead(optax.sgd(0.1), sync_period=2, slow_step_size=0.5)
    params, losses = rollouts(PARABOLA, tx, jax.random.key(0), num_tasks=1, num_steps=5)
    start = float(np.sqrt(losses[0, 0]))
    fast = slow = start
    expected = []
    for step in range(5):
        expected.append(fast**2)
        fast -= 0.1 * 2 * fast
        if step % 2:
            slow += 0.5 * (fast - slow)
            fast = slow
    np.testing.assert_allclose(losses[0], [*expected, slow**2], rtol=1e-5)
    np.testing.assert_allclose(np.abs(params[0]), slow, rtol=1e-5)


def test_at_once_bounds_memory():
    """Without final parameters neither output nor temporaries grow with the optimizees' size."""
    size = 20_000
    task = Task(init=lambda _, key: jax.random.normal(key, (size,)), loss=lambda x, _: x @ x)
    parts, data = task_parts(task)
    tx = optax.adam(0.1)

    def memory(num_tasks, with_params):
        settings = (Task, _plain, Sizes(num_tasks, 2, 2, with_params))
        made = program(_run, [*parts, tx.init, tx.update], settings)
        found = made.lower(data, (), jax.random.key(0)).compile().memory_analysis()
        return found.output_size_in_bytes, found.temp_size_in_bytes

    outputs, temporaries = memory(64, with_params=False)
    assert outputs == 64 * 3 * 4
    assert temporaries - memory(8, with_params=False)[1] < 4 * size
    assert memory(64, with_params=True)[0] >= 64 * size * 4


def test_data_are_arguments_of_the_compiled_program():
    """Programs for small and large data sets are equally long."""
    tx = optax.adam(0.1)

    def length(num_images):
        images = Images(
            jnp.zeros((num_images, 8, 8, 1), jnp.uint8), jnp.zeros(num_images, jnp.int32)
        )
        task = mlp(images, hidden_sizes=(2,), batch_size=4, num_classes=3)
        parts, data = task_parts(task)
        made = program(_run, [*parts, tx.init, tx.update], (Task, _plain, Sizes(2, 2, 2)))
        return len(made.lower(data, (), jax.random.key(0)).as_text())

    assert abs(length(5000) - length(100)) < 200
