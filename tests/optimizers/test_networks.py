"""The coordinatewise LSTM, against an LSTM in NumPy and float64 that serves one coordinate."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax.optimizers.networks import CoordinatewiseLSTM, LSTMCarry, lstm_cell
from l2ljax.optimizers.preprocess import identity, log_sign
from l2ljax.optimizers.transform import init_meta_params


def random_variables(network, seed=0):
    """Weights and biases of order one, so that every gate matters."""
    rng = np.random.default_rng(seed)
    like = jax.eval_shape(lambda key: init_meta_params(network, key), jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), like)


def carry_over(network, shape):
    """An all-zero carry for a parameter of that shape."""
    return jax.tree.map(lambda zero: jnp.zeros((*zero.shape, *shape)), network.initial_carry())


def numpy_updates(variables, network, features, gradients):
    """The updates of one coordinate: Hochreiter & Schmidhuber's cell, forget gate and offset."""
    weights = {name: np.asarray(leaf, np.float64) for name, leaf in variables["params"].items()}
    state = [(np.zeros(size), np.zeros(size)) for size in network.hidden_sizes]
    updates = []
    for gradient in gradients:
        signal = features(float(gradient))
        for layer, (hidden, cell) in enumerate(state):
            kernel, bias = weights[f"kernel_{layer}"], weights[f"bias_{layer}"]
            i, f, g, o = (kernel @ np.append(signal, hidden) + bias).reshape(4, -1)
            sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
            cell = sigmoid(f + network.forget_bias) * cell + sigmoid(i) * np.tanh(g)
            signal = sigmoid(o) * np.tanh(cell)
            state[layer] = signal, cell
        output = weights["readout"] @ signal + weights["readout_bias"]
        updates.append(network.output_scale * output)
    return updates


@pytest.mark.parametrize(
    ("network", "features"),
    [
        (CoordinatewiseLSTM((5,), identity(), 1.0), lambda g: [g]),
        (CoordinatewiseLSTM((4, 3), identity(), 0.3, forget_bias=-2.0), lambda g: [g]),
        (
            CoordinatewiseLSTM((3, 4), log_sign(2.0), 0.1),
            lambda g: (
                [np.log(abs(g)) / 2, np.sign(g)] if abs(g) >= np.exp(-2) else [-1, np.e**2 * g]
            ),
        ),
        (CoordinatewiseLSTM((), identity(), 0.5), lambda g: [g]),
    ],
    ids=["one layer", "two layers", "log_sign", "no layer"],
)
def test_updates_are_those_of_an_lstm_in_numpy(network, features):
    """Three steps over a [3, 4] parameter, coordinate by coordinate."""
    variables, shape = random_variables(network), (3, 4)
    gradients = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    carry, updates = carry_over(network, shape), []
    for gradient in gradients:
        carry, update = network.apply(variables, carry, jnp.asarray(gradient))
        updates.append(update)
    expected = np.zeros((3, *shape))
    for at in np.ndindex(shape):
        every_step = (slice(None), *at)
        expected[every_step] = numpy_updates(variables, network, features, gradients[every_step])
    np.testing.assert_allclose(np.stack(updates), expected, rtol=1e-4, atol=1e-6)


def test_a_whole_parameter_is_the_vmap_of_one_coordinate():
    """Coordinate axes last: `jax.vmap` with in_axes=-1 and out_axes=-1 over each of them."""
    network = CoordinatewiseLSTM((4, 3))
    variables = random_variables(network)
    gradient = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4)), jnp.float32)
    carry = jax.tree.map(lambda zero: zero + 0.5, carry_over(network, (3, 4)))

    def one(carry, gradient):
        return network.apply(variables, carry, gradient)

    vmapped = jax.vmap(jax.vmap(one, in_axes=-1, out_axes=-1), in_axes=-1, out_axes=-1)
    whole, each = one(carry, gradient), vmapped(carry, gradient)
    assert jax.tree.map(jnp.shape, whole) == jax.tree.map(jnp.shape, each)
    chex.assert_trees_all_close(whole, each, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("forget_bias", [-1.0, 0.0, 1.0, 3.0])
def test_without_weights_a_cell_decays_by_the_forget_bias(forget_bias):
    """c' = sigmoid(forget_bias) c, where all weights are 0; and h' = tanh(c') / 2."""
    network = CoordinatewiseLSTM((2,), forget_bias=forget_bias)
    variables = jax.tree.map(jnp.zeros_like, random_variables(network))
    carry = (LSTMCarry(jnp.zeros(2), jnp.array([1.0, -2.0])),)
    (carry,), update = network.apply(variables, carry, jnp.float32(0.3))
    cell = np.array([1.0, -2.0]) / (1 + np.exp(-forget_bias))
    np.testing.assert_allclose(carry.cell, cell, rtol=1e-6)
    np.testing.assert_allclose(carry.hidden, np.tanh(cell) / 2, rtol=1e-6)
    assert update == 0.0


def test_the_forget_bias_defaults_to_one():
    """It is no parameter: `init` has zero biases, whatever it is."""
    assert CoordinatewiseLSTM((2,)).forget_bias == 1.0
    for forget_bias in (0.0, 5.0):
        network = CoordinatewiseLSTM((2,), forget_bias=forget_bias)
        variables = init_meta_params(network, jax.random.key(0))["params"]
        assert set(variables) == {"kernel_0", "bias_0", "readout", "readout_bias"}
        assert not any(variables[name].any() for name in ("bias_0", "readout_bias"))


@pytest.mark.parametrize("gradient_dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_computes_in_its_own_dtype(dtype, gradient_dtype):
    """Output and carry have the network's dtype for every dtype of gradient and factors."""
    with jax.enable_x64(True):
        network = CoordinatewiseLSTM(
            (2,), output_scale=jnp.float64(0.1), forget_bias=jnp.float64(1.0), dtype=dtype
        )
        carry, update = jax.eval_shape(
            lambda gradient: network.init_with_output(
                jax.random.key(0), network.initial_carry(), gradient
            )[0],
            jax.ShapeDtypeStruct((), gradient_dtype),
        )
    assert {str(leaf.dtype) for leaf in jax.tree.leaves((carry, update))} == {dtype}


@pytest.mark.parametrize("hidden_sizes", [(0,), (-1, 3), (2.0,), (True,), 20, "20", None], ids=repr)
def test_bad_hidden_sizes_are_refused(hidden_sizes):
    """In a sentence that shows a good value."""
    with pytest.raises(ValueError, match=r"hidden_sizes must be positive integers.*\(20, 20\)"):
        CoordinatewiseLSTM(hidden_sizes)


def test_a_list_of_hidden_sizes_is_a_tuple():
    """So that the module can be hashed, as a static argument must be."""
    assert hash(CoordinatewiseLSTM([3, 2])) == hash(CoordinatewiseLSTM((3, 2)))
    assert CoordinatewiseLSTM([3, 2]) == CoordinatewiseLSTM((3, 2))


def test_the_cell_derivative_is_that_of_its_formula():
    """Jacobian-vector products of `lstm_cell` against automatic ones of the plain formula."""

    def plain(gates, cell):
        i, f, z, o = jnp.split(gates, 4)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(z)
        return jax.nn.sigmoid(o) * jnp.tanh(cell), cell

    keys = jax.random.split(jax.random.key(0), 4)
    with jax.enable_x64(True):
        primals = (
            3 * jax.random.normal(keys[0], (12, 2, 2), jnp.float64),
            2 * jax.random.normal(keys[1], (3, 2, 2), jnp.float64),
        )
        tangents = (
            jax.random.normal(keys[2], (12, 2, 2), jnp.float64),
            jax.random.normal(keys[3], (3, 2, 2), jnp.float64),
        )
        ours = jax.jvp(lstm_cell, primals, tangents)
        expected = jax.jvp(plain, primals, tangents)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
