"""Evolution strategies on problems with exact answers, and what they must have in common."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from evolution_problems import influence_balancing, linear_system, toy_regression

from l2ljax import init_optimizee, unroll
from l2ljax.estimators import es, full_es, gpes, nres, pes, truncated_bptt
from l2ljax.optimizers import lstm
from l2ljax.tasks import quadratic

ESTIMATE = jax.jit(lambda estimator, *args: estimator.estimate(*args))


def trained(estimator, meta_optimizer, meta_params, num_updates):
    """Meta-parameters after plain meta-updates, in one program."""

    @jax.jit
    def train(estimator, meta_params):
        def update(carry, key):
            meta_params, opt_state, state = carry
            _, grads, state, _ = estimator.estimate(meta_params, state, key)
            updates, opt_state = meta_optimizer.update(grads, opt_state, meta_params)
            return (optax.apply_updates(meta_params, updates), opt_state, state), None

        state = estimator.init(jax.random.key(1), meta_params)
        carry = (meta_params, meta_optimizer.init(meta_params), state)
        keys = jax.random.split(jax.random.key(2), num_updates)
        return jax.lax.scan(update, carry, keys)[0][0]

    return np.asarray(train(estimator, meta_params))


def windows(estimator, meta_params, number):
    """Meta-losses and meta-gradients of successive windows."""
    state = estimator.init(jax.random.key(1), meta_params)
    found = []
    for step in range(number):
        loss, grads, state, metrics = ESTIMATE(estimator, meta_params, state, jax.random.key(step))
        found.append((loss, grads, metrics))
    return found


def assert_equal(found, expected):
    """To float32 rounding, 1e-5 of an array's largest entry: differences of losses cancel."""

    def close(x, y):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5 * float(np.abs(y).max()))

    for a, b in zip(found, expected, strict=True):
        jax.tree.map(close, a, b)


# Influence balancing: the fixed point x_0 = -6 theta is at its target 1 for theta = -1/6, but the
# derivative of x_0 by theta is positive over the first 40 steps, so that windows shorter than that
# go the wrong way. Vicol et al. (2021), section 5.1: 3,000 updates by SGD at 1e-4.


def balanced(build, unroll_length, length, **options):
    task, optimizer = influence_balancing()
    estimator = build(
        task, optimizer, num_tasks=1, episode_length=length, unroll_length=unroll_length, **options
    )
    return float(trained(estimator, optax.sgd(1e-4), jnp.float32(0.5), 3000))


@pytest.mark.parametrize("build", [pes, nres])
def test_influence_balancing(build):
    """Single steps suffice for the unbiased estimators."""
    theta = balanced(build, 1, 10_000, num_perturbations=500, sigma=0.1)
    assert abs(theta + 1 / 6) < 1e-3


def test_influence_balancing_misleads_truncation():
    """One step at a time: 3.26 by backpropagation (float64 value 3.2597), es the same way."""
    theta = balanced(truncated_bptt, 1, 10_000, backward="scan")
    assert abs(theta - 3.2597) < 1e-3
    assert abs(balanced(es, 1, 10_000, num_perturbations=100, sigma=0.1) - theta) < 0.05


@pytest.mark.slow
def test_influence_balancing_with_long_windows():
    """Over 100 steps the derivative has nearly its final sign and size: -0.166653 in float64."""
    last = {"weights": lambda t: t % 100 == 0}  # of each window the last loss alone
    theta = balanced(truncated_bptt, 100, 300_000, backward="scan", **last)
    assert abs(theta + 0.166653) < 1e-5


def toy_loss(theta):
    task, optimizer = toy_regression(100)
    tx = optimizer.transform(jnp.asarray(theta, jnp.float32))
    state = init_optimizee(task, tx, jax.random.key(0))
    return float(unroll(task, tx, state, jax.random.key(1), 100)[1][1:].sum())


@pytest.mark.parametrize(
    ("theta", "low", "high"),
    [
        ((0.0, 0.0), 2423.468, 2423.468),
        ((-4.0, -4.0), 2487.769, 2487.769),
        ((-6.0, -6.0), 2494.678, 2494.678),
        ((3.0, -6.0), 587.04, 587.06),
    ],
)
def test_toy_regression(theta, low, high):
    """float64 values; the float32 sum of a hundred losses of 24 is good to 2e-2 at worst."""
    assert low - 2e-2 < toy_loss(theta) < high + 2e-2


@pytest.mark.slow
@pytest.mark.parametrize("build", [pes, nres])
def test_toy_regression_is_learned(build):
    """From 2,423 to below 800 (evosax: about 730 after 2,000 updates of 128 particles)."""
    task, optimizer = toy_regression(100)
    estimator = build(
        task, optimizer, num_tasks=1, episode_length=100, unroll_length=10, num_perturbations=64,
        sigma=0.2,
    )  # fmt: skip
    assert toy_loss(trained(estimator, optax.adam(1e-3), jnp.zeros(2), 2500)) < 800


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["es", "truncated_bptt"])
def test_toy_regression_misleads_truncation(kind, capsys):
    """The same updates end far above: windows of ten steps do not see the valley beyond."""
    (task, optimizer), some = toy_regression(100), {"num_tasks": 1, "episode_length": 100}
    if kind == "es":
        estimator = es(task, optimizer, unroll_length=10, num_perturbations=64, sigma=0.2, **some)
    else:
        estimator = truncated_bptt(
            task, optimizer, unroll_length=10, backward="scan", second_derivatives=True, **some
        )
    theta = trained(estimator, optax.adam(1e-3), jnp.zeros(2), 2500)
    with capsys.disabled():
        print(f" {kind} ends at {theta.round(2).tolist()}, loss {toy_loss(theta):.1f}", end=" ")
    assert toy_loss(theta) > 1000


def test_whole_episodes_are_the_same_for_all():
    """With windows as long as episodes pes, nres and es are one estimator, on the same noise."""
    whole = {"num_tasks": 2, "episode_length": 4, "unroll_length": 4, "num_perturbations": 3,
             "sigma": 0.1}  # fmt: skip
    meta_params = lstm((3,)).init(jax.random.key(0))
    # After the first, all windows begin with new optimizees, drawn alike; so do those of full_es.
    found = {
        b: windows(b(quadratic(3), lstm((3,)), **whole), meta_params, 3) for b in (es, pes, nres)
    }
    found[full_es] = windows(full_es(quadratic(3), lstm((3,)), **whole), meta_params, 3)
    for build in (pes, nres):
        assert_equal([w[:2] for w in found[build]], [w[:2] for w in found[es]])
    assert_equal([w[:2] for w in found[full_es][1:]], [w[:2] for w in found[es][1:]])


@pytest.mark.long
def test_gpes_lies_between_pes_and_nres():
    """Noise kept for a window is pes, for an episode nres; between them it is neither."""
    some = {"num_tasks": 2, "episode_length": 6, "unroll_length": 2, "num_perturbations": 3,
            "sigma": 0.1}  # fmt: skip
    meta_params = lstm((3,)).init(jax.random.key(0))

    def found(build, **options):
        estimator = build(quadratic(3), lstm((3,)), **some, **options)
        return [w[:2] for w in windows(estimator, meta_params, 5)]

    assert_equal(found(gpes, reuse_length=2), found(pes))
    assert_equal(found(gpes, reuse_length=6), found(nres))
    with pytest.raises(AssertionError):
        assert_equal(found(gpes, reuse_length=4), found(nres))
    # Perturbations a few at a time, tasks too, are the same perturbations.
    for at_once in (1, 3):
        assert_equal(found(pes, perturbations_at_once=at_once), found(pes))
        assert_equal(found(es, perturbations_at_once=at_once), found(es))


# On the linear system x <- 0.9 x + a + 2 b_0 the losses are linear in phi = (a, b): smoothing
# changes nothing. With u_t = (1 - 0.9^t) / 0.1 the derivatives of x_t are u_t, (2 u_t, 0).


def linear_gradient(weights):
    weights = np.asarray(weights, float)
    slope = (weights * (1 - 0.9 ** np.arange(1, weights.size + 1)) / 0.1).sum()
    return np.asarray([slope, 2 * slope, 0.0])


def summed(estimator, meta_params, number, draws):
    """Of each draw the sum of the meta-gradients of `number` windows, `[draws, 3]`."""

    @jax.jit
    @jax.vmap
    def total(key):
        init_key, key = jax.random.split(key)

        def step(state, key):
            _, grads, state, _ = estimator.estimate(meta_params, state, key)
            return state, jnp.concatenate([grads["a"][None], grads["b"]])

        state = estimator.init(init_key, meta_params)
        return jax.lax.scan(step, state, jax.random.split(key, number))[1].sum(axis=0)

    return np.asarray(total(jax.random.split(jax.random.key(3), draws)), float)


def assert_mean(draws, expected):
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert np.all(np.abs(draws.mean(axis=0) - expected) < 4 * error)
    # ... which would tell: a wrong sign or a lost window is far outside.
    assert np.all(error[:2] < np.abs(expected[:2]) / 20)


UNBIASED = {
    "pes": (pes, {}),
    "nres": (nres, {}),
    "gpes": (gpes, {"reuse_length": 4}),
}


@pytest.mark.parametrize("kind", UNBIASED)
def test_unbiased_where_episodes_end_inside_windows(kind):
    """Seven windows of 3 steps are three episodes of 7."""
    build, options = UNBIASED[kind]
    task, optimizer = linear_system()
    weights = np.linspace(0.5, 2, 7)
    estimator = build(
        task, optimizer, num_tasks=1, episode_length=7, unroll_length=3, num_perturbations=8,
        sigma={"a": 0.1, "b": 0.3}, weights=weights, **options,
    )  # fmt: skip
    draws = summed(estimator, optimizer.init(jax.random.key(0)), 7, 2000)
    assert_mean(draws, 3 * linear_gradient(weights))


def test_full_es_is_unbiased_for_drawn_lengths():
    """P(length n) = log((n + 1) / n) / log(9 / 2) for n = 2 ... 8."""
    task, optimizer = linear_system()
    estimator = full_es(
        task, optimizer, num_tasks=2, episode_length=(2, 8), num_perturbations=8, sigma=0.1
    )
    expected = sum(
        np.log((n + 1) / n) / np.log(9 / 2) * linear_gradient(np.ones(n)) for n in range(2, 9)
    )
    assert_mean(summed(estimator, optimizer.init(jax.random.key(0)), 1, 2000), expected)


def test_truncation_loses_influence():
    """es sees of the same system only its windows: 3 + 3 steps, each from scratch."""
    task, optimizer = linear_system()
    estimator = es(
        task, optimizer, num_tasks=1, episode_length=6, unroll_length=3, num_perturbations=8,
        sigma=0.1,
    )  # fmt: skip
    draws = summed(estimator, optimizer.init(jax.random.key(0)), 2, 2000)
    assert_mean(draws, 2 * linear_gradient(np.ones(3)))
