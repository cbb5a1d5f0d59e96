"""Parameters joined into one vector a group: the same updates, whatever the groups are."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax.base import CoordinateGroup, LearnedOptimizer
from l2ljax.optimizers import lstm, partition, rnnprop, small_fc
from l2ljax.tasks import mlp
from l2ljax.tasks.data import Images
from l2ljax.training.validation import Validation
from l2ljax.unrolling import init_optimizee, unroll
from l2ljax.unrolling.joined import JoinedState, joined

PARAMS = {
    "conv": jnp.ones((2, 3)),
    "empty": jnp.zeros((0, 4)),
    "number": jnp.ones(()),
    "rest": [jnp.ones(5), jnp.ones((1, 2))],
}


def by_name(params):
    return {name: "b" if name == "rest" else "a" for name in params} | {"rest": ["b", "a"]}


CASES = {
    "lstm": lambda: lstm((3,)),
    "rnnprop": lambda: rnnprop((3, 2)),
    "partition": lambda: partition({"a": lstm((3,)), "b": lstm((2,))}, by_name),
    "no parameter of one": lambda: partition(
        {"a": lstm((3,)), "b": lstm((2,))}, lambda params: jax.tree.map(lambda _: "a", params)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_updates_are_those_of_each_parameter_alone(name):
    """Over several steps of random gradients, of other sizes each; and the dtypes are kept."""
    optimizer = CASES[name]()
    meta_params = optimizer.init(jax.random.key(0))
    plain, fast = optimizer.transform(meta_params), joined(optimizer, meta_params)
    states = [tx.init(PARAMS) for tx in (plain, fast)]
    assert isinstance(states[1], JoinedState)
    draw = np.random.default_rng(0)
    for _ in range(3):
        gradients = jax.tree.map(lambda x: jnp.asarray(draw.normal(size=x.shape), x.dtype), PARAMS)
        expected, states[0] = plain.update(gradients, states[0], PARAMS)
        found, states[1] = fast.update(gradients, states[1], PARAMS)
        chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
        # an update near zero is a difference of larger numbers: as exact as those are
        chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize(
    ("optimizer", "params"),
    [
        (small_fc((2,)), {"a": jnp.ones(2), "b": jnp.ones(2)}),  # reads its parameters
        (lstm((2,)), {"a": jnp.ones(2)}),
        (lstm((2,)), {"a": jnp.ones(2), "b": jnp.ones(2, jnp.bfloat16)}),
    ],
)
def test_left_as_it_is_where_nothing_can_be_joined(optimizer, params):
    meta_params = optimizer.init(jax.random.key(0))
    plain, fast = optimizer.transform(meta_params), joined(optimizer, meta_params)
    state = fast.init(params)
    chex.assert_trees_all_equal(state, plain.init(params))
    found, _ = fast.update(params, state, params)
    chex.assert_trees_all_equal(found, plain.update(params, plain.init(params), params)[0])


@pytest.mark.parametrize(
    ("served", "words"),
    [
        ([(0,)], "b is in 0 groups"),
        ([(0, 1), (1,)], "b is in 2 groups"),
        ([(0, 1, 2)], "among the 2 leaves, 0 to 1, got 2"),
        ([(0, -1)], "got -1"),
    ],
)
def test_groups_that_do_not_serve_each_parameter_once_are_refused(served, words):
    """A parameter in none would be moved by its gradient as it is, upwards."""
    rule = lstm((2,))
    partial = LearnedOptimizer(
        rule.init,
        rule.transform,
        lambda params: tuple(CoordinateGroup(leaves, rule.transform) for leaves in served),
    )
    tx = joined(partial, rule.init(jax.random.key(0)))
    with pytest.raises(ValueError, match=words):
        tx.init({"a": jnp.ones(2), "b": jnp.ones(3)})


def test_a_validation_scores_the_same_episodes():
    """Its score beside the mean of plain rollouts with the keys that it splits."""
    draw = np.random.default_rng(1)
    images = Images(jnp.asarray(draw.random((20, 4)), jnp.float32), jnp.arange(20) % 3)
    task, optimizer = mlp(images, (2,), batch_size=4), lstm((2,))
    meta_params = optimizer.init(jax.random.key(0))
    validation = Validation(
        task=task, optimizer=optimizer, key=jax.random.key(5), num_tasks=3, num_steps=4
    )
    tx = optimizer.transform(meta_params)
    losses = []
    for key in jax.random.split(jax.random.fold_in(validation.key, 0x76616C69), 3):
        init_key, run_key = jax.random.split(key)
        optimizee = init_optimizee(task, tx, init_key)
        losses.append(unroll(task, tx, optimizee, run_key, 4)[1][1:].mean())
    expected = float(np.mean(losses))
    assert float(validation.score(meta_params)) == pytest.approx(expected, rel=1e-5)
