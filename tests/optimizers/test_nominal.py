"""The trusted step: its bounds, Adam as its start, and no scale of the gradient's own."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import l2ljax
from l2ljax.optimizers import nominal, scale_by_nominal
from l2ljax.optimizers.nominal_directions import DECAYS
from l2ljax.optimizers.nominal_network import network
from l2ljax.tasks import quadratic

OPTIMIZER = nominal((8,))
PARAMS = {"w": jnp.ones((3, 4)), "b": jnp.zeros(4)}


def gradients(scale=1.0, steps=6):
    rng = np.random.default_rng(0)
    return [
        jax.tree.map(lambda p: scale * jnp.asarray(rng.normal(size=p.shape), p.dtype), PARAMS)
        for _ in range(steps)
    ]


def run(tx, sequence):
    state, updates = tx.init(PARAMS), []
    for gradient in sequence:
        update, state = tx.update(gradient, state, PARAMS)
        updates.append(update)
    return updates


def test_with_a_network_of_zeros_it_is_adam_at_its_base_rate():
    """tanh(0) = 0: rate exp(-6); a mixture on one momentum alone is Adam's direction."""
    meta_params = jax.tree.map(jnp.zeros_like, OPTIMIZER.init(jax.random.key(0)))
    meta_params["layers"][-1]["bias"] = jnp.array([0.0, 0.0, -99.0, 99.0, -99.0, -99.0])
    ours = run(OPTIMIZER.transform(meta_params), gradients())
    adam = run(optax.adam(float(np.exp(-6.0)), b1=0.9, b2=0.999), gradients())
    chex.assert_trees_all_close(ours, adam, rtol=1e-4)


@pytest.mark.parametrize("num_steps", [None, 100])
def test_it_comes_to_rest(num_steps):
    """With a network of zeros: Adam at a rate that falls as 3 / t after three steps."""
    optimizer, restless = nominal((8,), num_steps, rest_after=3), nominal((8,), num_steps)
    meta_params = jax.tree.map(jnp.zeros_like, optimizer.init(jax.random.key(0)))
    meta_params["layers"][-1]["bias"] = jnp.array([0.0, 0.0, -99.0, 99.0, -99.0, -99.0])
    ours = run(optimizer.transform(meta_params), gradients())
    plain = run(restless.transform(meta_params), gradients())
    for t, (a, b) in enumerate(zip(ours, plain, strict=True), start=1):
        factor = min(1.0, 3 / t)
        jax.tree.map(lambda x, y, f=factor: np.testing.assert_allclose(x, f * y, rtol=1e-5), a, b)


@pytest.mark.parametrize("seed", range(5))
def test_no_meta_parameters_step_further_than_the_bound(seed):
    """exp(rate + span) limit, for weights a hundred times as large as any trained ones."""
    meta_params = jax.tree.map(lambda x: 100 * x, OPTIMIZER.init(jax.random.key(seed)))
    updates = run(OPTIMIZER.transform(meta_params), gradients(1e4))
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(updates))
    assert 0 < largest <= np.exp(1.0) * 5.0 * (1 + 1e-6)


def test_the_scale_of_the_gradient_makes_no_difference():
    meta_params = OPTIMIZER.init(jax.random.key(1))
    plain, scaled = (run(OPTIMIZER.transform(meta_params), gradients(s)) for s in (1.0, 1e4))
    chex.assert_trees_all_close(plain, scaled, rtol=2e-3, atol=1e-7)


def test_it_is_optaxs_sign_before_and_complete_after():
    meta_params = OPTIMIZER.init(jax.random.key(1))
    before = run(scale_by_nominal(meta_params), gradients())
    after = run(OPTIMIZER.transform(meta_params), gradients())
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, -b), before, after)


def test_updates_without_parameters_and_weights_of_another_kind_are_refused():
    meta_params = OPTIMIZER.init(jax.random.key(0))
    tx = scale_by_nominal(meta_params)
    with pytest.raises(ValueError, match=r"update\(gradients, state, params\)"):
        tx.update(PARAMS, tx.init(PARAMS))
    with pytest.raises(ValueError, match="num_steps"):
        scale_by_nominal(meta_params, num_steps=100)
    for other in (l2ljax.lstm((3,)), l2ljax.partition({"a": OPTIMIZER}, lambda p: "a")):
        with pytest.raises(ValueError, match=r"meta_params .* must come from nominal\(...\).init"):
            scale_by_nominal(other.init(jax.random.key(0)))


def test_agreements_are_cosines_whatever_the_time_that_is_told():
    """Of gradients that are all alike they are 1, long after that time too."""
    seen = []

    def heard(meta_params, table):
        seen.append(table)
        return network(meta_params, table)

    optimizer = nominal((4,), rest_after=3)
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("l2ljax.optimizers._nominal.network", heard)
        run(tx, [jax.tree.map(jnp.ones_like, PARAMS)] * 30)
    momenta = len(DECAYS)
    for table in seen:
        averaged = table[:, momenta + 1 : 2 * momenta + 1]
        np.testing.assert_allclose(averaged, 1, rtol=1e-4)


def test_a_fresh_one_trains_and_the_horizon_is_seen():
    """With `num_steps` the network is told how much is left, and its steps depend on it."""
    task = quadratic(dim=3)
    losses = l2ljax.evaluate(
        task,
        OPTIMIZER.transform(OPTIMIZER.init(jax.random.key(0))),
        jax.random.key(1),
        num_tasks=4,
        num_steps=100,
    )
    assert np.mean(losses[:, -1]) < np.mean(losses[:, 0])
    short, long = (nominal((8,), num_steps=n) for n in (10, 1000))
    meta_params = jax.tree.map(lambda x: 3 * x, short.init(jax.random.key(0)))
    a, b = (run(o.transform(meta_params), gradients()) for o in (short, long))
    assert not np.allclose(a[-1]["w"], b[-1]["w"], rtol=1e-4)


@pytest.mark.parametrize("second_derivatives", [False, True])
@pytest.mark.parametrize("directions", [(), ("tensor", "orthogonal", "orthogonal_adam")])
def test_meta_gradients_are_right_where_parameters_and_gradients_are_zero(
    directions, second_derivatives
):
    """A bias at 0 that the loss does not see, a matrix behind one of zeros: finite differences."""
    optimizer = nominal((4,), directions=directions, from_start=True)
    task = l2ljax.Task(
        init=lambda _, key: {
            "w": jax.random.normal(key, (3, 4)), "head": jnp.zeros((4, 2)), "b": jnp.zeros(2),
        },
        loss=lambda p, _: jnp.sum((p["w"] @ p["head"] - 1) ** 2) + 0 * jnp.sum(p["b"]),
    )  # fmt: skip
    estimator = l2ljax.truncated_bptt(
        task,
        optimizer,
        num_tasks=2,
        episode_length=4,
        unroll_length=4,
        second_derivatives=second_derivatives,
    )
    key, meta_params = jax.random.key(1), optimizer.init(jax.random.key(0))
    meta_params = jax.tree.map(lambda x: x + 0.1, meta_params)
    state = estimator.init(key, meta_params)
    estimate = jax.jit(lambda phi: estimator.estimate(phi, state, key)[:2])
    found = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(estimate(meta_params)[1])])
    assert np.isfinite(found).all()
    if not second_derivatives:  # what is stopped is no derivative of the loss that is there
        return
    size = jax.tree.map(jnp.zeros_like, meta_params)
    size["layers"][-1]["bias"] = size["layers"][-1]["bias"].at[0].set(1e-2)
    above, below = (
        float(estimate(jax.tree.map(op, meta_params, size))[0]) for op in (jnp.add, jnp.subtract)
    )
    slope = float(estimate(meta_params)[1]["layers"][-1]["bias"][0])
    assert slope == pytest.approx((above - below) / 2e-2, rel=0.02)
