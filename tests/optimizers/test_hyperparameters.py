"""`hyperparameters`: any Optax transformation with its scalars as meta-parameters."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from optimizer_cases import assert_close, draw, run

import l2ljax
from l2ljax.optimizers import build, hyperparameters, log, logit, parametrised
from l2ljax.optimizers.schedules import LOG_HORIZON
from l2ljax.specification.plain import specification_of

REFERENCE = Path(__file__).parents[3] / "shared/zoo/reference/learnable_adam.npz"
KEY = jax.random.key(0)


def transform_of(optimizer):
    return optimizer.transform(optimizer.init(KEY))


def steps(tx, num_steps=4):
    """Updates of a few steps with the parameters at hand."""
    gradients = [draw(seed) for seed in range(1, num_steps + 1)]
    return run(lambda g, s: tx.update(g, s, draw(0)), tx.init(draw(0)), gradients)[0]


@pytest.mark.parametrize("schedule", [None, "piecewise", "network"])
@pytest.mark.parametrize(
    ("make_tx", "start", "given"),
    [
        (optax.sgd, {"learning_rate": log(0.1)}, {"learning_rate": 0.1}),
        (
            optax.adamw,
            {"learning_rate": log(1e-3), "b1": logit(0.8), "b2": logit(0.99), "weight_decay": 0.1},
            {"learning_rate": 1e-3, "b1": 0.8, "b2": 0.99, "weight_decay": 0.1},
        ),
        (
            functools.partial(optax.rmsprop, momentum=0.5),
            {"learning_rate": log(1e-3), "eps": log(1e-4)},
            {"learning_rate": 1e-3, "eps": 1e-4},
        ),
        (
            optax.lion,
            {"learning_rate": log(3e-4), "b1": logit(0.9)},
            {"learning_rate": 3e-4, "b1": 0.9},
        ),
    ],
    ids=["sgd", "adamw", "rmsprop-momentum", "lion"],
)
def test_starts_as_the_transformation_with_those_numbers(make_tx, start, given, schedule):
    """Whatever the schedule: it starts constant."""
    optimizer = hyperparameters(make_tx, start, schedule, num_steps=100)
    assert_close(steps(transform_of(optimizer)), steps(make_tx(**given)), rtol=2e-4, atol=1e-8)


@pytest.mark.skipif(not REFERENCE.exists(), reason="needs ../shared/zoo/reference")
@pytest.mark.parametrize(
    ("weights", "problem", "run_name"),
    [
        ("custom", "P1", "P1"),
        ("custom", "P2", "P2"),
        ("custom", "P3", "P3"),
        ("default", "P2", "P2_default"),
    ],
)
def test_equals_the_official_learnable_adam(weights, problem, run_name):
    """google/learned_optimization's LearnableAdam, which has eps_root = 1e-8, step by step."""
    arrays = np.load(REFERENCE)
    rate, b1, b2, eps = (
        float(arrays[f"weights/{weights}/{name}"])
        for name in ("log_lr", "one_minus_beta1", "one_minus_beta2", "log_epsilon")
    )
    optimizer = hyperparameters(
        functools.partial(optax.adam, eps_root=1e-8),
        {
            "learning_rate": log(np.exp(rate)),
            "b1": logit(1 - np.exp(b1)),
            "b2": logit(1 - np.exp(b2)),
            "eps": log(np.exp(eps)),
        },
    )

    def read(what):
        prefix = f"{what}/"
        return {k.removeprefix(prefix): arrays[k] for k in arrays.files if k.startswith(prefix)}

    start, expected = read(f"theta0/{problem}"), read(f"params/{run_name}")
    tx = transform_of(optimizer)

    def step(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    gradients = read(f"grads/{problem}")
    _, params = jax.jit(lambda p, g: jax.lax.scan(step, (p, tx.init(p)), g))(start, gradients)
    for name, theta in start.items():
        movement = np.abs(expected[name] - theta).max()
        np.testing.assert_allclose(params[name], expected[name], 0, 1e-4 * movement + 2e-7)


def test_a_piecewise_schedule_is_linear_on_its_scale_and_holds_its_end():
    """Knots of a learning rate at 1, 0.01 and 0.1: geometric means between them."""
    optimizer = hyperparameters(
        optax.sgd, {"learning_rate": log(1.0)}, "piecewise", num_steps=8, num_knots=3
    )
    tx = optimizer.transform({"learning_rate": jnp.log(jnp.array([1.0, 0.01, 0.1]))})
    ones = [jnp.ones(())] * 11
    rates = [-float(u) for u in run(tx.update, tx.init(jnp.zeros(())), ones)[0]]
    logs = [0, -0.5, -1, -1.5, -2, -1.75, -1.5, -1.25, -1, -1, -1]
    np.testing.assert_allclose(rates, 10.0 ** np.array(logs), rtol=1e-5)


def test_without_num_steps_a_schedule_is_over_the_logarithm_of_the_step():
    """With two knots, 1 and e^-1, the rate is exp(-log(1 + t) / log(1 + horizon))."""
    optimizer = hyperparameters(optax.sgd, {"learning_rate": log(1.0)}, "piecewise", num_knots=2)
    tx = optimizer.transform({"learning_rate": jnp.array([0.0, -1.0])})
    state = tx.init(jnp.zeros(()))
    for t in (0, 9, 999, LOG_HORIZON, 10 * LOG_HORIZON):
        update, _ = tx.update(jnp.ones(()), state._replace(count=jnp.int32(t)))
        expected = np.exp(-min(1, np.log1p(t) / np.log1p(LOG_HORIZON)))
        np.testing.assert_allclose(-update, expected, rtol=1e-5)


def test_only_the_scheduled_names_have_a_schedule():
    """The others are scalars."""
    start = {"learning_rate": log(1e-3), "b1": logit(0.9)}
    optimizer = hyperparameters(
        optax.adam, start, "piecewise", scheduled=["learning_rate"], num_knots=5
    )
    shapes = jax.tree.map(jnp.shape, optimizer.init(KEY))
    assert shapes == {"learning_rate": (5,), "b1": ()}


def test_groups_have_hyperparameters_of_their_own():
    """A group by label: its own learning rate."""
    optimizer = hyperparameters(
        optax.sgd,
        {"learning_rate": log(1.0)},
        labels={"w": "matrix", "b": "vector"},
        groups=["matrix", "vector"],
    )
    rates = {"matrix": {"learning_rate": jnp.log(0.5)}, "vector": {"learning_rate": jnp.log(0.1)}}
    gradient = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    tx = optimizer.transform(rates)
    updates, _ = tx.update(gradient, tx.init(gradient))
    expected = {"w": jnp.full((2, 2), -0.5), "b": jnp.full(2, -0.1)}
    assert_close(updates, expected)


def dead_and_alive():
    """A task with a coordinate whose gradient is always 0."""
    scale = jnp.array([0.0, 1.0, 3.0])
    return l2ljax.Task(
        init=lambda _, key: jax.random.normal(key, (3,)),
        loss=lambda x, _: jnp.sum(scale * jnp.square(x)),
    )


def meta_gradient(optimizer, meta_params, **options):
    """The loss and the gradient of one whole episode of six steps of two such optimizees."""
    estimator = l2ljax.truncated_bptt(
        dead_and_alive(), optimizer, num_tasks=2, episode_length=6, unroll_length=6, **options
    )
    state = estimator.init(KEY, meta_params)
    loss, grads, _, _ = jax.jit(estimator.estimate)(meta_params, state, KEY)
    return loss, grads


@pytest.mark.long
@pytest.mark.parametrize("schedule", ["piecewise", "network"])
def test_meta_gradients_are_finite_differences_and_recorded_ones_are_those_of_the_scan(schedule):
    """With a coordinate whose gradients are all 0, where the derivative of Adam's root is."""
    optimizer = hyperparameters(
        optax.adam,
        {"learning_rate": log(0.05), "b1": logit(0.8), "b2": logit(0.9)},
        schedule,
        num_steps=6,
        num_knots=3,
        hidden_size=2,
        coordinatewise=True,
    )
    # Away from the start, where the readouts are 0 and so the derivatives of the network.
    meta_params = jax.tree.map(lambda x: x + 0.1, optimizer.init(KEY))
    _, grads = meta_gradient(optimizer, meta_params, backward="scan", second_derivatives=True)
    vector, unravel = ravel_pytree(meta_params)
    losses = jax.jit(
        lambda vectors: jax.lax.map(
            lambda v: meta_gradient(
                optimizer, unravel(v), backward="scan", second_derivatives=True
            )[0],
            vectors,
        )
    )
    h, unit = 0.02, jnp.eye(vector.size)
    differences = (losses(vector + h * unit) - losses(vector - h * unit)) / (2 * h)
    scale = jnp.abs(differences).max()
    np.testing.assert_allclose(ravel_pytree(grads)[0], differences, 0.01, 3e-3 * scale)

    _, scanned = meta_gradient(optimizer, meta_params, backward="scan")
    _, recorded = meta_gradient(optimizer, meta_params, backward="recorded")
    assert_close(recorded, scanned, rtol=1e-4, atol=1e-5 * float(scale))


def own_tx(rate, decay=0.0):
    """A function of one's own, found by its file's name."""
    return optax.adamw(rate, weight_decay=decay)


@pytest.mark.parametrize(
    ("make_tx", "start", "options"),
    [
        (optax.adamw, {"learning_rate": log(1e-3)}, {}),
        (optax.adam, {"learning_rate": log(1e-3), "b1": logit(0.9), "eps": 1e-8}, {"spread": 0.1}),
        (optax.sgd, {"learning_rate": 0.5}, {"schedule": "piecewise", "num_steps": 10}),
        (own_tx, {"rate": log(1e-3), "decay": parametrised.plain(0.1)}, {"schedule": "network"}),
        (
            optax.sgd,
            {"learning_rate": log(0.1)},
            {"groups": ("a", "b"), "labels": {"x": "a", "y": "b"}},
        ),
    ],
    ids=["adamw", "adam", "sgd", "own", "groups"],
)
def test_plain_data_rebuilds_the_very_same_object(make_tx, start, options):
    """After a way through JSON, as weights files hold it; a copy that was changed has none."""
    optimizer = hyperparameters(make_tx, start, **options)
    specification = specification_of(optimizer)
    assert specification is not None
    assert specification["name"] == "hyperparameters"
    assert build(json.loads(json.dumps(dict(specification)))) is optimizer
    assert hyperparameters(make_tx, dict(start), **options) is optimizer
    assert specification_of(optimizer._replace(init=lambda key: 0.0)) is None


def test_scales_in_plain_data_are_checked():
    """As those given to `log` and `logit`."""
    given = {"name": "hyperparameters", "make_tx": {"function": "optax:sgd"}}
    with pytest.raises(ValueError, match="value of log must be"):
        build(given | {"start": {"learning_rate": {"name": "log", "value": -1.0}}})
    with pytest.raises(ValueError, match=r"hyperparameter 'logit'.* it takes value"):
        build(given | {"start": {"learning_rate": {"name": "logit", "x": 0.1}}})


def test_is_rebuilt_from_its_specification_and_is_the_same_object_for_equal_arguments():
    """log and logit are plain data too."""
    start = {"learning_rate": log(1e-3), "b1": logit(0.9), "weight_decay": 0.01}
    optimizer = hyperparameters(optax.adamw, start, "network", num_steps=100)
    assert build(optimizer.specification) is optimizer
    assert hyperparameters(optax.adamw, dict(start), "network", num_steps=100) is optimizer


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hyperparameters(3, {"x": 1.0}), "make_tx must be a function"),
        (lambda: hyperparameters(optax.sgd, {}), "start must be a dict"),
        (lambda: hyperparameters(optax.sgd, {"rate": 0.1}), "start has no use for 'rate'"),
        (lambda: hyperparameters(optax.sgd, {"learning_rate": "x"}), "must be l2ljax.log"),
        (lambda: hyperparameters(optax.sgd, {"learning_rate": 0.1}, "cosine"), "schedule must be"),
        (
            lambda: hyperparameters(optax.sgd, {"learning_rate": 0.1}, scheduled=["b1"]),
            "scheduled has no use for 'b1'",
        ),
        (lambda: hyperparameters(optax.sgd, {"learning_rate": 0.1}, num_knots=1), "num_knots"),
        (
            lambda: hyperparameters(optax.sgd, {"learning_rate": 0.1}, labels=lambda p: p),
            "labels need groups",
        ),
        (lambda: log(0.0), "value of log must be a finite number above 0, got 0.0"),
        (lambda: logit(1.0), "value of logit must be a number between 0 and 1, got 1.0"),
        (
            lambda: hyperparameters(optax.sgd, {"learning_rate": 0.1}).transform({}),
            "meta_params lacks the leaf learning_rate",
        ),
    ],
)
def test_wrong_arguments_are_refused_at_the_door(call, message):
    """In a sentence that names them."""
    with pytest.raises(ValueError, match=message):
        call()
