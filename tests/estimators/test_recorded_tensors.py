"""Rules whose tensors are alone, not their coordinates: recorded equals scan, tensor by tensor.

A rule may read its tensor's parameters, which are a part of its state then. What the meta-gradient
of such a rule is, with the optimizee's gradients stopped, is held against finite differences.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optimizer_cases import CASES
from recorded_cases import LABELS, assert_same, chained, coordinatewise, meta_gradient, problem
from window_cases import ESTIMATE, NOISY_BOWL, assert_close, make

import l2ljax
from l2ljax import LearnedOptimizer, TensorGroup, partition, wrap
from l2ljax.estimators import truncated_bptt
from l2ljax.optimizers import celo, celo_adam, lstm, nominal, velo
from l2ljax.optimizers.alone import tensors_alone

BY_TENSOR = {name: optimizer for name, optimizer in CASES.items() if optimizer.tensor_groups}


def tensorwise(make_tx, start):
    return LearnedOptimizer(
        lambda key: jnp.asarray(start), make_tx, tensor_groups=tensors_alone(make_tx)
    )


def _trust_ratio(rate):
    """LARS: a momentum, a step as long as the parameters, and a counter."""

    def one(g, p):
        return rate * g * optax.safe_norm(p, 1e-2) / optax.safe_norm(g, 1e-2)

    direction = optax.stateless(lambda g, p: jax.tree.map(one, g, p))
    return chained(
        optax.trace(rate), direction, optax.scale_by_schedule(lambda t: -0.3 / (1.0 + t))
    )


def _slow(value, yes=True):
    return pytest.param(value, marks=[pytest.mark.slow] * yes)


TRUST = tensorwise(_trust_ratio, 0.5)
RATE = coordinatewise(lambda r: chained(optax.scale(-r)), 0.1)


def test_the_family_declares_what_is_alone():
    """By tensor: what reads tensors and parameters. Not at all: what reads all, or the loss."""
    assert {optimizer.specification["name"] for optimizer in BY_TENSOR.values()} == {
        "celo2",
        "small_fc",
    }
    for build in (celo, celo_adam, velo):
        assert build(num_steps=10).groups is None
    assert nominal((4,)).groups is None


@pytest.mark.parametrize("name", [_slow(name) for name in BY_TENSOR])
def test_recorded_equals_scan_for_the_family(name):
    """One tensor at a time; one coordinate of one optimizee has a NaN gradient."""
    optimizer = BY_TENSOR[name]
    task = problem([(3, 2), (3, 2), (3,)], [jnp.float32] * 3, poison=True)
    # Newton-Schulz makes more of rounding.
    rtol = 1e-3 if name == "celo2" else 1e-4
    _, gradient, diverged = assert_same(task, optimizer, rtol, chunk_size=3)
    assert any(np.any(g) for g in jax.tree.leaves(gradient))
    assert 0 < (np.asarray(diverged) >= 0).sum() < 3


OWN = {
    "trust": TRUST,
    "with-coordinates": partition({"a": TRUST, "b": RATE}, LABELS["rank"]),
    "nested": partition({"a": RATE, "b": partition({"a": RATE, "b": TRUST}, LABELS["size"])},
                        LABELS["path"]),
    "wrapped": wrap(TRUST, lambda tx: optax.chain(optax.clip(0.5), tx, optax.scale(2.0)), True),
}  # fmt: skip


@pytest.mark.parametrize("chunk_size", [1, _slow(14), _slow(None)])
@pytest.mark.parametrize("name", [_slow(name, name == "nested") for name in OWN])
def test_recorded_equals_scan(name, chunk_size):
    """Whatever the chunks; tensors of any rank, some empty, in trees and partitions."""
    task = problem([(2, 3), (2, 3), (2, 3), (), (3, 0)], [jnp.float32] * 5)
    _, gradient, _ = assert_same(task, OWN[name], chunk_size=chunk_size)
    assert all(np.isfinite(g) and abs(g) > 1e-2 for g in map(float, jax.tree.leaves(gradient)))


def test_a_wrapped_tensor_rule_is_trained_with_its_wrapper():
    """`wrap` keeps the groups where it may, `_replace` drops them."""
    around = lambda tx: optax.chain(tx, optax.scale(2.0))  # noqa: E731
    assert TRUST._replace(transform=lambda phi: around(TRUST.transform(phi))).groups is None
    assert wrap(TRUST, around).groups is None
    assert wrap(TRUST, around, True).groups is not None


def test_windows_of_an_episode_equal_the_scans():
    """Parameters are those of the window's start, also where an optimizee was drawn anew."""

    def loss(params, batch):  # infinite for some optimizees
        return jnp.where(batch[0] > 0.5, jnp.inf, NOISY_BOWL.loss(params, batch))

    task = l2ljax.Task(
        sample=NOISY_BOWL.sample, init=NOISY_BOWL.init, batch=NOISY_BOWL.batch, loss=loss
    )
    results = []
    for backward in ("scan", "recorded"):
        estimator = make(
            TRUST, task, num_tasks=6, episode_length=6, unroll_length=2, backward=backward
        )
        state = estimator.init(jax.random.key(1), jnp.float32(0.5))
        for key in jax.random.split(jax.random.key(4), 3):
            loss_value, grads, state, metrics = ESTIMATE(estimator, jnp.float32(0.5), state, key)
            results.append((backward, loss_value, grads, state.optimizees.params, metrics))
    diverged = [int((metrics["diverged_at"] >= 0).sum()) for *_, metrics in results[:3]]
    assert all(0 < number < 6 for number in diverged[:2])
    for (_, *one, _), (_, *other, _) in zip(results[:3], results[3:], strict=True):
        assert_close(other, one)


def test_a_share_visits_whole_tensors_and_is_unbiased():
    """One of two equal tensors is visited: twice the part of either, whose mean is the whole."""
    task = problem([(3,), (3,)], [jnp.float32] * 2)
    options = {"num_tasks": 1, "episode_length": 3, "unroll_length": 3}
    whole = meta_gradient(task, TRUST, "scan", num_tasks=1)[1]
    estimator = truncated_bptt(task, TRUST, coordinate_share=0.5, **options)
    state = estimator.init(jax.random.key(1), jnp.float32(0.5))

    def part(held):
        """The whole without the other tensor, which does nothing but start where it starts."""

        def loss(params, batch):
            return task.loss(jax.lax.stop_gradient({held: params[held]}) | _without(params, held),
                             batch)  # fmt: skip

        alone = l2ljax.Task(init=task.init, sample=task.sample, loss=loss)
        return float(meta_gradient(alone, TRUST, "scan", num_tasks=1)[1])

    parts = [part("l0"), part("l1")]
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-5)
    estimate = jax.jit(lambda key: estimator.estimate(jnp.float32(0.5), state, key)[:2])
    _, sampled = estimate(jax.random.key(5))
    assert min(abs(2 * p - float(sampled)) for p in parts) < 1e-5 * abs(float(whole))


def _without(params, name):
    return {key: value for key, value in params.items() if key != name}


@pytest.mark.parametrize("name", ["trust", _slow("small_fc"), _slow("celo2-network")])
@pytest.mark.parametrize("backward", ["scan", "recorded"])
def test_the_meta_gradient_goes_through_the_parameters_that_later_steps_read(name, backward):
    """With g_t held at what they were, sum_t <g_t, theta_t(phi)> has it as its derivative.

    So says d f(theta_t) / d theta_t = g_t. Central differences along a direction of phi, in which
    theta_t moves by what the rule makes of phi and of theta_s at the steps s < t.
    """
    optimizer = (BY_TENSOR | {"trust": TRUST})[name]
    task, steps = problem([(2, 3), (3,)], [jnp.float32] * 2), 4
    estimator = truncated_bptt(
        task, optimizer, num_tasks=1, episode_length=steps, unroll_length=steps, backward=backward
    )
    phi, unravel = jax.flatten_util.ravel_pytree(optimizer.init(jax.random.key(0)))
    direction = jax.random.normal(jax.random.key(7), phi.shape) * (0.3 if phi.size > 1 else 1.0)
    phi = phi + 0.1 * jax.random.normal(jax.random.key(8), phi.shape) * (phi.size > 1)

    @jax.jit
    def estimated(phi):
        state = estimator.init(jax.random.key(1), unravel(phi))
        return estimator.estimate(unravel(phi), state, jax.random.key(2))[1]

    instance, params = _drawn(task, jax.random.key(2))

    @jax.jit
    def trajectory(phi, held):
        """All theta_t, t >= 1, with the gradients that `held` has, or else the task's own."""
        tx, theta = optimizer.transform(unravel(phi)), params
        state, thetas, gradients = tx.init(theta), [], []
        for t in range(steps):
            g = jax.grad(task.loss)(theta, instance) if held is None else held[t]
            updates, state = tx.update(g, state, theta)
            theta = optax.apply_updates(theta, updates)
            thetas.append(theta)
            gradients.append(g)
        return thetas, [*gradients, jax.grad(task.loss)(theta, instance)]

    _, held = trajectory(phi, None)
    epsilon = 3e-3
    ends = [trajectory(phi + e * direction, held)[0] for e in (epsilon, -epsilon)]
    difference = sum(
        np.sum(np.float64(g) * (np.float64(up) - np.float64(down)))
        for theta_up, theta_down, gradient in zip(*ends, held[1:], strict=True)
        for up, down, g in zip(*map(jax.tree.leaves, (theta_up, theta_down, gradient)), strict=True)
    )
    gradient, _ = jax.flatten_util.ravel_pytree(estimated(phi))
    np.testing.assert_allclose(gradient @ direction, difference / (2 * epsilon), rtol=1e-2)


def _drawn(task, key):
    """What the estimator draws for its only optimizee."""
    from l2ljax.estimators.optimizees import sample_batch

    keys = jax.random.split(jax.random.split(key, 3)[0], 1)
    return jax.tree.map(lambda leaf: leaf[0], sample_batch(task, keys))


def test_the_recorded_pass_of_tensors_is_taken_on_request():
    """A share of them is one; where a member reads the loss it is refused."""
    both = partition({"a": TRUST, "b": lstm((2,))}, LABELS["rank"])
    for optimizer in (TRUST, both):
        assert make(optimizer).backward == "scan"
        assert make(optimizer, coordinate_share=0.5).backward == "recorded"
        assert make(optimizer, backward="recorded").backward == "recorded"
    reads_loss = partition({"a": TRUST, "b": celo(4)}, LABELS["rank"])
    with pytest.raises(ValueError, match="declares no coordinate_groups or tensor_groups"):
        make(reads_loss, backward="recorded")


def _refused(make_tx):
    return tensorwise(make_tx, 0.1)


def _reads_value(rate):
    def update(g, state, params=None, *, value, **extra):
        return jax.tree.map(lambda x: -rate * value * x, g), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (_refused(_reads_value), "is given gradients and parameters alone"),
        (_refused(lambda r: optax.add_noise(r, 0.5, key=jax.random.key(0))), "of its tensors"),
        (TRUST._replace(tensor_groups=lambda p: (TensorGroup((0,), _trust_ratio),)), "in 0 groups"),
    ],
    ids=["value", "random", "uncovered"],
)
def test_what_cannot_be_recorded_is_refused_in_a_sentence(optimizer, words):
    with pytest.raises(ValueError, match=words) as error:
        make(optimizer, backward="recorded")
    assert "\n" not in str(error.value)


def test_the_public_check_finds_tensors_that_are_not_alone():
    """Clipping by the norm of all tensors together."""
    wrong = tensorwise(lambda r: chained(optax.clip_by_global_norm(0.5), optax.scale(-r)), 0.3)
    params = {"w": jnp.ones((2, 2)), "b": jnp.zeros(3)}
    with pytest.raises(ValueError, match=r"leave tensor_groups out"):
        l2ljax.check_learned_optimizer(wrong, params)


@pytest.mark.slow
def test_the_public_check_passes():
    l2ljax.check_learned_optimizer(TRUST, {"w": jnp.ones((2, 2)), "b": jnp.zeros(3)})
