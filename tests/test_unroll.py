"""The inner loop against a Python loop, and its meta-gradients against references."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.base import LearnedOptimizer, Task
from l2ljax.optimizers import lstm
from l2ljax.optimizers.preprocess import identity
from l2ljax.unrolling import init_optimizee, unroll

# Quartic wells ||W theta - y - s||^2 + b^4 with one number s as minibatch and theta = {a, b}.
NOISY = Task(
    init=lambda instance, key: dict(zip("ab", jax.random.normal(key, (2, 3)), strict=True)),
    loss=lambda params, batch: (
        jnp.sum((batch[0][0] @ params["a"] - batch[0][1] - batch[1]) ** 2)
        + jnp.sum(params["b"] ** 4)
    ),
    sample=lambda data, key: (jax.random.normal(key, (3, 3)), data),
    batch=lambda data, instance, key: (instance, 0.3 * jax.random.normal(key)),
    data=jnp.arange(3.0),
)
# The same minibatches, with the minibatch itself as the loss: `unroll` then returns what it drew.
PROBE = dataclasses.replace(NOISY, loss=lambda params, batch: batch[1])

RATE = LearnedOptimizer(
    init=lambda key: jnp.full((), -4.0), transform=lambda rate: optax.scale(-jnp.exp(rate))
)
DECAY = LearnedOptimizer(  # reads params
    init=lambda key: {"rate": jnp.full((), -3.0), "decay": jnp.full((), 0.3)},
    transform=lambda phi: optax.chain(
        optax.scale_by_adam(),
        optax.add_decayed_weights(phi["decay"]),
        optax.scale(-jnp.exp(phi["rate"])),
    ),
)


def small_lstm():
    """In the precision of the moment, and steep enough for second derivatives to matter."""
    return lstm((4,), identity(), output_scale=1.0, dtype=jnp.result_type(float))


TRANSFORMS = {
    "sgd": lambda: optax.sgd(0.02),
    "adam": lambda: optax.adam(0.1),
    "nag": lambda: optax.sgd(0.02, momentum=0.9, nesterov=True),
    "adamw": lambda: optax.adamw(0.1, weight_decay=0.3),
    "noise": lambda: optax.chain(optax.add_noise(0.1, 0.5, 3), optax.sgd(0.02)),
    "lstm": lambda: small_lstm().transform(small_lstm().init(jax.random.key(9))),
    "plateau": lambda: optax.chain(
        optax.sgd(0.02), optax.contrib.reduce_on_plateau(factor=0.5, patience=1)
    ),
    "lbfgs": lambda: optax.lbfgs(linesearch=optax.scale_by_backtracking_linesearch(5)),
}
LEARNED = {"rate": lambda: RATE, "decay": lambda: DECAY, "lstm": small_lstm}


def shapes_and_dtypes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@functools.cache
def noise(seed, num_steps):
    """The minibatches that a key stands for, whoever is trained on them."""
    tx = optax.identity()
    state = init_optimizee(PROBE, tx, jax.random.key(0))
    return unroll(PROBE, tx, state, jax.random.key(seed), num_steps)[1]


def python_loop(tx, state, noises, stop=lambda gradient: gradient):
    """theta_{t+1} = theta_t + g_t, written out; the loss at theta_t comes before the update."""
    tx = optax.with_extra_args_support(tx)

    @jax.jit
    def step(params, opt_state, s):
        def f(params):
            return NOISY.loss(params, (state.instance, s))

        value, gradient = f(params), stop(jax.grad(f)(params))
        extra = {"value": value, "grad": gradient, "value_fn": f}
        updates, opt_state = tx.update(gradient, opt_state, params, **extra)
        return jax.tree.map(jnp.add, params, updates), opt_state, value

    _, params, opt_state = state
    losses = []
    for s in noises[:-1]:
        params, opt_state, value = step(params, opt_state, s)
        losses.append(value)
    return params, jnp.stack([*losses, NOISY.loss(params, (state.instance, noises[-1]))])


@pytest.mark.parametrize("make_tx", TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_is_the_python_loop(make_tx):
    with jax.enable_x64(True):
        tx = make_tx()
        state = init_optimizee(NOISY, tx, jax.random.key(0))
        final, losses = unroll(NOISY, tx, state, jax.random.key(1), 4)
        expected, expected_losses = python_loop(tx, state, noise(1, 4))
        assert losses.shape == (5,)
        np.testing.assert_allclose(losses, expected_losses, rtol=1e-9)
        jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, 1e-9), final.params, expected)
        assert shapes_and_dtypes(final) == shapes_and_dtypes(state)
        chex.assert_trees_all_equal(final.instance, state.instance)


def test_equal_keys_give_equal_optimizees_and_minibatches_whatever_the_transform():
    def draws(tx, init_key, key):
        state = init_optimizee(PROBE, tx, init_key)
        return state[:2], unroll(PROBE, tx, state, key, 4)[1]

    keys = jax.random.split(jax.random.key(0), 3)
    by_sgd, *others = (
        jax.jit(functools.partial(draws, TRANSFORMS[name]())) for name in ("sgd", "noise", "lstm")
    )
    expected = by_sgd(keys[0], keys[1])
    for other in others:
        chex.assert_trees_all_equal(other(keys[0], keys[1]), expected)
    _, again = by_sgd(keys[0], keys[2])
    assert len({*expected[1].tolist(), *again.tolist()}) == 10  # no minibatch comes twice


def test_init_optimizee_draws_by_key():
    tx = optax.sgd(0.1)
    one, same, other = (init_optimizee(NOISY, tx, jax.random.key(seed)) for seed in (0, 0, 1))
    chex.assert_trees_all_equal(one, same)
    assert not np.allclose(one.instance[0], other.instance[0])
    assert not np.allclose(one.params["a"], other.params["a"])


def meta_loss(losses):
    return jnp.dot(jnp.cos(jnp.arange(1.0, losses.size + 1)), losses)  # any weights


def start(name):
    """A learned optimizer, its meta-parameters phi, and an optimizee for it."""
    optimizer = LEARNED[name]()
    phi = optimizer.init(jax.random.key(9))
    return optimizer, phi, init_optimizee(NOISY, optimizer.transform(phi), jax.random.key(0))


@functools.cache
def by_unroll(name, second_derivatives):
    """phi -> the meta-loss and its gradient."""
    optimizer, _, state = start(name)

    def f(phi):
        tx, options = optimizer.transform(phi), {"second_derivatives": second_derivatives}
        return meta_loss(unroll(NOISY, tx, state, jax.random.key(1), 4, **options)[1])

    return jax.jit(jax.value_and_grad(f))


@pytest.mark.parametrize("name", LEARNED)
def test_by_default_the_meta_gradient_takes_the_optimizees_gradients_as_constants(name):
    """As in the Python loop with `stop_gradient` on them."""
    with jax.enable_x64(True):
        optimizer, phi, state = start(name)

        def by_loop(phi):
            tx = optimizer.transform(phi)
            return meta_loss(python_loop(tx, state, noise(1, 4), jax.lax.stop_gradient)[1])

        expected = jax.jit(jax.grad(by_loop))(phi)
        assert optax.tree.norm(expected) > 0.1
        _, actual = by_unroll(name, False)(phi)
        jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, 1e-8, 1e-10), actual, expected)


@pytest.mark.parametrize("name", LEARNED)
def test_with_second_derivatives_it_is_the_central_difference(name):
    """Along a random direction, in float64 with h = 1e-5. By default it is another number."""
    with jax.enable_x64(True):
        _, phi, _ = start(name)
        normal, h = np.random.default_rng(0).normal, 1e-5
        direction = jax.tree.map(lambda leaf: normal(size=leaf.shape), phi)
        ahead, behind = (
            by_unroll(name, True)(jax.tree.map(lambda p, d, s=s: p + s * d, phi, direction))[0]
            for s in (h, -h)
        )
        slope, stopped = (
            sum(jax.tree.leaves(jax.tree.map(np.vdot, by_unroll(name, flag)(phi)[1], direction)))
            for flag in (True, False)
        )
        np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), rtol=1e-6)
        assert abs(stopped - slope) > 1e-4 * abs(slope)


@jax.custom_vjp
def once_differentiable(x):
    return jnp.sum(x**2)


@jax.custom_jvp
def twice_x(x):
    return 2 * x


@twice_x.defjvp
def _refuse(primals, tangents):
    raise AssertionError("the optimizee is differentiated twice")


once_differentiable.defvjp(
    lambda x: (once_differentiable(x), x), lambda x, cotangent: (cotangent * twice_x(x),)
)


def test_the_optimizee_is_differentiated_only_once_by_default():
    task = Task(
        init=lambda _, key: jax.random.normal(key, (3,)), loss=lambda x, _: once_differentiable(x)
    )
    state = init_optimizee(task, RATE.transform(0.0), jax.random.key(0))

    def last_loss(rate, **options):
        return unroll(task, RATE.transform(rate), state, jax.random.key(1), 2, **options)[1][-1]

    # x_2 = (1 - 2 r) x_1 and x_1 = (1 - 2 r) x_0; with constant gradients both steps move x_2 by
    # -2 x_t dr, so d |x_2|^2 = -4 x_2 (x_0 + x_1) dr, and dr = r d log r.
    r, (x0,) = 0.1, jax.tree.leaves(state.params)
    x1, x2 = (1 - 2 * r) * x0, (1 - 2 * r) ** 2 * x0
    expected = -4 * r * jnp.vdot(x2, x0 + x1)
    np.testing.assert_allclose(jax.grad(last_loss)(jnp.log(r)), expected, rtol=1e-5)
    with pytest.raises(AssertionError, match="differentiated twice"):
        jax.grad(last_loss)(jnp.log(r), second_derivatives=True)


def test_compiles_once_for_equal_shapes_and_continues_from_its_own_state():
    traces = []

    def counted(params, batch):
        traces.append(None)
        return NOISY.loss(params, batch)

    task, tx = dataclasses.replace(NOISY, loss=counted), TRANSFORMS["adam"]()
    run = jax.jit(lambda task, state, key: unroll(task, tx, state, key, 3))
    state, losses = run(task, init_optimizee(task, tx, jax.random.key(0)), jax.random.key(1))
    assert len(traces) > 0
    traces.clear()
    run(task, state, jax.random.key(2))
    other = dataclasses.replace(task, data=task.data + 1)
    _, other_losses = run(other, init_optimizee(other, tx, jax.random.key(0)), jax.random.key(1))
    assert not traces
    assert not np.allclose(losses, other_losses)


def test_vmap_over_keys_is_the_loop():
    @jax.jit
    def losses(key):
        init_key, key = jax.random.split(key)
        tx = TRANSFORMS["adam"]()
        return unroll(NOISY, tx, init_optimizee(NOISY, tx, init_key), key, 3)[1]

    keys = jax.random.split(jax.random.key(0), 3)
    each = np.stack([losses(key) for key in keys])
    np.testing.assert_allclose(jax.vmap(losses)(keys), each, rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda x, _: x**2, r"real floating-point scalar, got shape \(3,\).*jnp\.mean"),
        (lambda x, _: jnp.sum(x > 0), r"got shape \(\) and dtype int32"),
        (lambda x, _: jnp.sum(x * 1j), r"got shape \(\) and dtype complex64"),
    ],
)
def test_refuses_a_loss_that_is_no_real_scalar(loss, message):
    task = Task(init=lambda _, key: jnp.ones(3), loss=loss)
    state = init_optimizee(task, optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        unroll(task, optax.sgd(0.1), state, jax.random.key(1), 2)


@pytest.mark.parametrize("num_steps", [0, -1, 2.0, True])
def test_refuses_a_number_of_steps_that_is_no_positive_integer(num_steps):
    state = init_optimizee(NOISY, optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(ValueError, match="num_steps must be an integer of at least 1, got"):
        unroll(NOISY, optax.sgd(0.1), state, jax.random.key(1), num_steps)
