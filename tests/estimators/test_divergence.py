"""Optimizees that diverge: left out of the meta-gradient, reported, and started anew."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.base import CoordinateGroup, LearnedOptimizer, Task
from l2ljax.estimators import truncated_bptt
from l2ljax.estimators.divergence import diverged_at, mean_of_finite
from l2ljax.training.loop import meta_train

# f(theta) = c sum theta^2. At c = 1e6 and a rate of 0.4 each step multiplies theta by about -1e6
# and f by 1e12: from f(theta_0) = 1e6 or so, f(theta_3) overflows float32. Near c = 1 it is tame.
BOWL = Task(
    sample=lambda data, key: jax.random.uniform(key, minval=0.5, maxval=1.5),
    init=lambda c, key: jax.random.normal(key, (3,)),
    loss=lambda theta, c: c * jnp.sum(theta**2),
)


def momentum(phi):
    tx = optax.sgd(jnp.exp(phi["log_rate"]), momentum=phi["decay"])
    return optax.with_extra_args_support(tx)


MOMENTUM = LearnedOptimizer(
    init=lambda key: {"log_rate": jnp.log(0.4), "decay": jnp.float32(0.2)},
    transform=momentum,
    coordinate_groups=lambda params: (CoordinateGroup((0,), momentum),),
)
META_PARAMS = MOMENTUM.init(jax.random.key(0))
ESTIMATE = jax.jit(lambda estimator, *args: estimator.estimate(*args))
both_ways = pytest.mark.parametrize("backward", ["scan", "recorded"])


def started(backward, curvatures):
    """An estimator and its state at step 4 of 12, with an optimizee for each curvature."""
    estimator = truncated_bptt(
        BOWL, MOMENTUM, num_tasks=len(curvatures), episode_length=12, unroll_length=4,
        weights=range(12), backward=backward,
    )  # fmt: skip
    state = estimator.init(jax.random.key(1), META_PARAMS)
    optimizees = state.optimizees._replace(instance=jnp.float32(curvatures))
    return estimator, state._replace(position=jnp.int32(4), optimizees=optimizees)


def by_hand(params, c):
    """Meta-loss, meta-gradient and last theta of one optimizee, in a loop."""

    def meta_loss(phi):
        theta, trace, total = params, 0.0, 0.0
        for weight in (4.0, 5.0, 6.0, 7.0):
            gradient = jax.lax.stop_gradient(2 * c * theta)
            trace = gradient + phi["decay"] * trace
            theta = theta - jnp.exp(phi["log_rate"]) * trace
            total += weight * c * jnp.sum(theta**2)
        return total, theta

    return jax.value_and_grad(meta_loss, has_aux=True)(META_PARAMS)


@both_ways
def test_a_diverged_optimizee_is_left_out(backward):
    """Meta-loss and meta-gradient are those of the others; its step is told; it starts anew."""
    estimator, state = started(backward, [1.0, 1e6, 0.7])
    loss, grads, after, metrics = ESTIMATE(estimator, META_PARAMS, state, jax.random.key(2))

    fine = [by_hand(state.optimizees.params[i], c) for i, c in ((0, 1.0), (2, 0.7))]
    np.testing.assert_allclose(loss, np.mean([f for (f, _), _ in fine]), rtol=1e-5)
    for name in META_PARAMS:
        np.testing.assert_allclose(grads[name], np.mean([g[name] for _, g in fine]), rtol=1e-4)
    assert metrics["diverged_at"].tolist() == [-1, 4 + 3, -1]
    assert np.isfinite(metrics["losses"]).all()

    instance, theta, opt_state = after.optimizees
    for i, ((_, last), _) in zip((0, 2), fine, strict=True):
        np.testing.assert_allclose(theta[i], last, rtol=1e-4)
    assert int(after.position) == 8
    assert 0.5 <= float(instance[1]) <= 1.5  # drawn from the task
    assert 0 < float(jnp.abs(theta[1]).max()) < 6  # as theta_0 is
    traces = opt_state[0].trace if backward == "scan" else opt_state[0][0].trace
    assert (jnp.abs(traces).max(axis=1) > 0).tolist() == [True, False, True]
    loss, grads, _, metrics = ESTIMATE(estimator, META_PARAMS, after, jax.random.key(3))
    assert metrics["diverged_at"].tolist() == [-1, -1, -1]
    assert np.isfinite([loss, *grads.values()]).all()


def _from_start(phi):
    """Steps towards theta_0, which the state holds: of another theta_0 they go astray."""

    def update(gradients, state, params=None, **extra_args):
        del gradients, extra_args
        return jax.tree.map(lambda start, p: phi * (start - p), state, params), state

    return optax.GradientTransformationExtraArgs(lambda params: params, update)


def test_a_new_optimizee_has_the_state_of_its_own_start():
    """The one that is lost is NaN in all its parameters; of its state nothing may stay."""
    optimizer = LearnedOptimizer(lambda key: jnp.float32(0.5), _from_start)
    task = Task(
        sample=lambda data, key: jnp.float32(1.0),
        init=lambda instance, key: jax.random.normal(key, (3,)),
        loss=lambda p, sick: jnp.sum(p**2) * sick,
    )
    estimator = truncated_bptt(task, optimizer, num_tasks=3, episode_length=12, unroll_length=4)
    state = estimator.init(jax.random.key(0), 0.5)
    _, _, state, _ = estimator.estimate(jnp.float32(0.5), state, jax.random.key(1))
    sick = state.optimizees._replace(instance=jnp.array([1.0, jnp.nan, 1.0]))
    lost = sick.params.at[1].set(jnp.nan)
    state = state._replace(optimizees=sick._replace(params=lost))
    _, _, state, metrics = estimator.estimate(jnp.float32(0.5), state, jax.random.key(2))
    assert metrics["diverged_at"].tolist() == [-1, 4, -1]
    np.testing.assert_array_equal(state.optimizees.opt_state[1], state.optimizees.params[1])
    _, _, _, metrics = estimator.estimate(jnp.float32(0.5), state, jax.random.key(3))
    assert metrics["diverged_at"].tolist() == [-1, -1, -1]


@both_ways
def test_where_all_diverge_the_meta_gradient_is_nan(backward):
    """And the next window is fine, for the optimizees are new ones."""
    estimator, state = started(backward, [1e6, 1e6])
    loss, grads, state, metrics = ESTIMATE(estimator, META_PARAMS, state, jax.random.key(2))
    assert np.isnan([loss, *grads.values()]).all()
    assert metrics["diverged_at"].tolist() == [7, 7]
    loss, grads, _, metrics = ESTIMATE(estimator, META_PARAMS, state, jax.random.key(3))
    assert np.isfinite([loss, *grads.values()]).all()
    assert metrics["diverged_at"].tolist() == [-1, -1]


def test_a_sample_of_coordinates_leaves_it_out_too():
    """With one coordinate in three visited, the other optimizees' meta-gradient is finite."""
    estimator = truncated_bptt(
        BOWL, MOMENTUM, num_tasks=2, episode_length=12, unroll_length=4, coordinate_share=0.34
    )
    _, state = started("recorded", [1e6, 1.0])
    _, grads, _, metrics = ESTIMATE(estimator, META_PARAMS, state, jax.random.key(2))
    assert metrics["diverged_at"].tolist() == [7, -1]
    assert np.isfinite([*grads.values()]).all()


def test_meta_training_goes_on_without_them():
    """Of 8 optimizees a quarter is untrainable; each of those is counted and no update is lost."""

    def sample(data, key):
        return jnp.where(jax.random.bernoulli(key, 0.25), 1e6, 1.0)

    estimator = truncated_bptt(
        dataclasses.replace(BOWL, sample=sample), MOMENTUM, num_tasks=8, episode_length=4,
        unroll_length=4,
    )  # fmt: skip
    result = meta_train(
        estimator, optax.adam(0.01), META_PARAMS, jax.random.key(0), num_meta_updates=20
    )
    # 40 expected, within four standard deviations of the binomial
    assert 40 - 22 <= result.num_diverged <= 40 + 22
    assert result.num_skipped == 0
    assert np.isfinite([*result.meta_params.values()]).all()


def test_the_step_of_a_divergence():
    """The first loss that is not finite; the window's last step where only gradients are not."""
    losses = jnp.float32([[1, 2, 3], [1, np.nan, np.inf], [-np.inf, 1, 1], [1, 1, 1]])
    fine = jnp.array([True, False, False, False])
    assert diverged_at(losses, fine, jnp.int32(10)).tolist() == [-1, 11, 10, 12]
    means = mean_of_finite(losses, jnp.array([True, False, False, True]))
    np.testing.assert_allclose(means, [1, 1.5, 2])
    assert np.isnan(mean_of_finite(losses, jnp.zeros(4, bool))).all()
