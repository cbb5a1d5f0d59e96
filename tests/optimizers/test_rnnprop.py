"""`rnnprop` beside its equations in NumPy, and beside what the official code computed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from zoo import ZOO, largest_difference, needs_zoo

from l2ljax.optimizers import load_published, rnnprop, scale_by_rnnprop


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(params, gradients, b1, b2, correct):
    """The updates of one coordinate, in float64."""
    m = v = 0.0
    hidden = cell = np.zeros(params["readout"].shape)
    updates = []
    for t, g in enumerate(gradients, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        m_hat, v_hat = correct(m, b1, t), correct(v, b2, t)
        x = np.array([m_hat, g]) / np.sqrt(v_hat + 1e-16)
        gates = params["kernel_0"] @ np.concatenate([x, hidden]) + params["bias_0"]
        i, f, z, o = np.split(gates, 4)
        cell = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(z)
        hidden = sigmoid(o) * np.tanh(cell)
        updates.append(-0.1 * np.tanh(params["readout"] @ hidden + params["readout_bias"]))
    return updates


CORRECTIONS = {
    True: lambda m, b, t: m / (1 - b**t),
    False: lambda m, b, t: m,
    "constant": lambda m, b, t: m / (1 - b),
}


@pytest.mark.parametrize("bias_correction", CORRECTIONS, ids=str)
def test_updates_follow_the_equations(bias_correction):
    """Five steps of gradients from 1e-3 to 1e3, in float64 by hand."""
    optimizer = rnnprop((3,), b1=0.8, b2=0.99, bias_correction=bias_correction)
    meta_params = jax.tree.map(lambda x: 3 * x + 0.1, optimizer.init(jax.random.key(0)))
    gradients = [0.5, -2.0, 1e3, 1e-3, 0.0]
    tx = optimizer.transform(meta_params)
    state, updates = tx.init(jnp.zeros(())), []
    for gradient in gradients:
        update, state = tx.update(jnp.float32(gradient), state)
        updates.append(update)
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), meta_params["params"])
    expected = by_hand(params, gradients, 0.8, 0.99, CORRECTIONS[bias_correction])
    np.testing.assert_allclose(updates, expected, rtol=2e-5)


def test_scale_by_is_followed_by_a_learning_rate():
    """Optax's sign: behind it, a learning rate of 1 gives what `transform` gives."""
    optimizer = rnnprop((3,))
    meta_params, gradient = optimizer.init(jax.random.key(0)), jnp.arange(-2.0, 3.0)
    complete = optimizer.transform(meta_params)
    chained = optax.chain(scale_by_rnnprop(meta_params, (3,)), optax.scale_by_learning_rate(1.0))
    updates = [tx.update(gradient, tx.init(gradient))[0] for tx in (complete, chained)]
    np.testing.assert_array_equal(*updates)


def test_steps_are_bounded_and_do_not_change_with_the_loss_times_a_number():
    """At most `output_scale`; equal for gradients times 1e6, up to rounding."""
    optimizer = rnnprop((3,), output_scale=0.01)
    meta_params = jax.tree.map(lambda x: 100 * x, optimizer.init(jax.random.key(0)))
    tx = optimizer.transform(meta_params)
    gradient = jax.random.normal(jax.random.key(1), (20,))
    updates = [tx.update(c * gradient, tx.init(gradient))[0] for c in (1.0, 1e6)]
    assert np.abs(updates[0]).max() <= 0.01
    np.testing.assert_allclose(*updates, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"b1": 1.0}, "b1 must be a number of at least 0 and below 1, got 1.0"),
        ({"b1": jnp.float32(1.0)}, "b1 must be a number of at least 0 and below 1, got 1.0"),
        ({"b2": jnp.float32(1.5)}, "b2 must be a number of at least 0 and below 1, got 1.5"),
        ({"b2": -0.1}, "b2 must be a number of at least 0 and below 1, got -0.1"),
        ({"bias_correction": "powers"}, 'bias_correction must be True, False or "constant"'),
        ({"eps": 0.0}, "eps must be a finite number above 0, got 0.0"),
        ({"hidden_sizes": 20}, "hidden_sizes must be positive integers"),
        ({"block_size": 0}, "block_size must be an integer of at least 1, got 0"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_arguments_are_refused_at_the_door(arguments, message):
    """By the builder, with what was given."""
    with pytest.raises(ValueError, match=message):
        rnnprop(**arguments)


def test_decays_may_be_arrays_also_inside_jit():
    """Traced ones, whose value is not known, and those that are known."""
    meta_params = rnnprop((3,)).init(jax.random.key(0))
    gradient = jnp.arange(-2.0, 3.0)

    def update(b1):
        tx = scale_by_rnnprop(meta_params, (3,), b1=b1, b2=jnp.float32(0.75))
        return tx.update(gradient, tx.init(gradient))[0]

    np.testing.assert_allclose(jax.jit(update)(0.5), update(0.5), rtol=1e-5)


@needs_zoo
@pytest.mark.parametrize(
    "run", ["P2", *(pytest.param(run, marks=pytest.mark.long) for run in ("P1", "P3"))]
)
@pytest.mark.parametrize(
    ("name", "file"),
    [("rnnprop_mean_1", "rnnprop-mean-1"), ("rnnprop_choice_small_1", "rnnprop-choice-small-1")],
)
def test_published_weights_take_the_steps_of_the_official_code(name, file, run):
    """Within 1e-5 of the way, for all twelve steps; trees of all ranks in P2."""
    optimizer, meta_params = load_published("rnnprop", ZOO / f"{file}.npz")
    assert largest_difference(optimizer.transform(meta_params), name, run) < 1e-5
