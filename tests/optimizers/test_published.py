"""`from_published` and `load_published`: others' arrays become optimizers that take their steps."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.serialization import msgpack_serialize
from safetensors.numpy import save_file

import l2ljax
from l2ljax.optimizers import KINDS, from_published, load_published, lstm
from l2ljax.optimizers.preprocess import log_and_sign, log_sign


def fake_l2l(inputs=2, units=3):
    """Arrays as DeepMind's code names them, filled with normal numbers."""
    shapes = {
        "lstm_1.w_gates": (inputs + units, 4 * units),
        "lstm_1.b_gates": (4 * units,),
        "lstm_2.w_gates": (2 * units, 4 * units),
        "lstm_2.b_gates": (4 * units,),
        "linear.w": (units, 1),
        "linear.b": (1,),
    }
    normal = np.random.default_rng(0).normal
    return {name: normal(size=shape).astype("float32") for name, shape in shapes.items()}


def fake_rnnprop(units=3):
    shapes = {"network.delta.kernel": (units, 1), "network.delta.bias": (1,)}
    for i, inputs in enumerate((2, units)):
        name = f"network.recurrent.{i}"
        shapes[f"{name}.kernel"] = (inputs, 4 * units)
        shapes[f"{name}.recurrent_kernel"] = (units, 4 * units)
        shapes[f"{name}.bias"] = (4 * units,)
    return {name: np.ones(shape, "float32") for name, shape in shapes.items()}


def fake_celo2():
    numbers = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)
    shapes = {f"first_layer_weights.{i}": (8, n) for i, n in enumerate(numbers)}
    shapes |= {"first_layer_bias": (8,), "hidden.weight": (8, 8), "hidden.bias": (8,)}
    shapes |= {"output.weight": (3, 8), "output.bias": (3,)}
    return {name: np.ones(shape, "float32") for name, shape in shapes.items()}


def fake_celo_adam(units=3):
    shapes = {"rnn.linear": (2 * units, 4 * units), "step_size": (units, 1)}
    shapes |= {"linear_1": (18, units), "linear_2": (18, units)}
    fake = {f"lstm_init_state.{name}": np.ones((1, units)) for name in ("hidden", "cell")}
    for name, (inputs, outputs) in shapes.items():
        fake[f"rnn_params.{name}.w"] = np.ones((inputs, outputs))
        fake[f"rnn_params.{name}.b"] = np.ones(outputs)
    return {name: value.astype("float32") for name, value in fake.items()}


def fake_celo(width=2):
    numbers = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)
    shapes = {f"w0__{i}": (1, n, width) for i, n in enumerate(numbers)}
    shapes |= {"b0": (1, width), "w1": (1, width, width), "b1": (1, width)}
    shapes |= {"w2": (1, width, 3), "b2": (1, 3)}
    network = {f"ff_mod_stack.~.{k}": np.ones(shape, "float32") for k, shape in shapes.items()}
    return fake_celo_adam() | network


FAKES = {
    "l2l": fake_l2l(),
    "rnnprop": fake_rnnprop(),
    "celo2": fake_celo2(),
    "celo": fake_celo(),
    "celo-adam": fake_celo_adam(),
}
OPTIONS = {"celo": {"num_steps": 100}, "celo-adam": {"num_steps": 100}}
"""What must be given besides the arrays."""
every_kind = pytest.mark.parametrize("kind", FAKES)


def sonnet_step(given, gradient, states):
    """One step of DeepMind's network in NumPy: gates i, j, f, o of [x, h] W + b."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    x = np.array([np.log(abs(gradient) + 2**-23) / 5, gradient * np.exp(5)])
    x = np.array([max(x[0], -1), np.clip(x[1], -1, 1)])
    new_states = []
    for layer, (h, c) in enumerate(states, start=1):
        gates = np.concatenate([x, h]) @ given[f"lstm_{layer}.w_gates"]
        i, j, f, o = np.split(gates + given[f"lstm_{layer}.b_gates"], 4)
        c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j)
        x = sigmoid(o) * np.tanh(c)
        new_states.append((x, c))
    return 0.01 * (x @ given["linear.w"] + given["linear.b"])[0], new_states


@pytest.mark.parametrize("reset_every", [None, 2])
def test_l2l_follows_deepminds_equations(reset_every):
    """Five steps in NumPy, without and with a state that is zeroed."""
    given = fake_l2l()
    optimizer, meta_params = from_published("l2l", given, reset_every=reset_every)
    tx = optimizer.transform(meta_params)
    state, zeros = tx.init(jnp.zeros(())), [(np.zeros(3), np.zeros(3))] * 2
    states = zeros
    for t, gradient in enumerate([0.5, -2e-3, 0.0, 1e3, -1e-5]):
        if reset_every and t % reset_every == 0:
            states = zeros
        expected, states = sonnet_step(given, gradient, states)
        update, state = tx.update(jnp.float32(gradient), state)
        np.testing.assert_allclose(update, expected, rtol=2e-5, atol=1e-8)


def test_log_and_sign_is_log_sign_up_to_its_epsilon():
    """DeepMind's formula and the paper's, from 1e-4 to 1e4."""
    gradient = jnp.concatenate([sign * jnp.logspace(-4, 4, 30) for sign in (-1, 1)])
    features = [make(5.0)(gradient) for make in (log_and_sign, log_sign)]
    np.testing.assert_allclose(*features, atol=1e-3)
    assert np.isfinite(log_and_sign(80.0)(jnp.array([0.0, 3e38, -3e38]))).all()


def test_reset_every_step_is_a_function_of_the_gradient():
    """With a reset at each step the past has no influence, and without one it has."""
    first, later = [], []
    for reset_every in (1, None):
        optimizer = lstm((4,), reset_every=reset_every)
        tx = optimizer.transform(optimizer.init(jax.random.key(0)))
        gradient = jnp.array([0.3, -2.0])
        update, state = tx.update(gradient, tx.init(gradient))
        first.append(update)
        later.append(tx.update(gradient, state)[0])
    np.testing.assert_array_equal(first[0], later[0])
    np.testing.assert_array_equal(first[0], first[1])
    assert not np.allclose(first[1], later[1])


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "state", "nested.state"])
@every_kind
def test_files_give_what_the_arrays_give(kind, suffix, tmp_path):
    """NumPy's, safetensors and msgpack, nested too; names with "/" as well."""
    given, path = FAKES[kind], tmp_path / f"theta.{suffix}"
    if suffix == "npz":
        np.savez(path, **given)
    elif suffix == "safetensors":
        save_file({name.replace(".", "/"): value for name, value in given.items()}, path)
    elif suffix == "state":
        path.write_bytes(msgpack_serialize(dict(given)))
    else:
        nested: dict = {}
        for name, value in given.items():
            *parents, last = name.split(".")
            node = nested
            for part in parents:
                node = node.setdefault(part, {})
            node[last] = value
        path.write_bytes(msgpack_serialize(nested))
    options = OPTIONS.get(kind, {})
    optimizer, meta_params = load_published(kind, path, **options)
    expected_optimizer, expected = from_published(kind, given, **options)
    assert optimizer is expected_optimizer
    chex.assert_trees_all_equal(meta_params, expected)


@every_kind
def test_arrays_that_do_not_fit_are_refused_by_name(kind):
    """Missing, misshapen, not finite, one too many: the first in one sentence."""
    given, options = FAKES[kind], OPTIONS.get(kind, {})
    for name, value in given.items():
        without = {k: v for k, v in given.items() if k != name}
        with pytest.raises(ValueError, match=f"lack the array {name} "):
            from_published(kind, without, **options)
        with pytest.raises(ValueError, match=r"must have"):
            from_published(kind, given | {name: value[None]}, **options)
        with pytest.raises(ValueError, match=f"{name} of .* has a value that is not finite"):
            from_published(kind, given | {name: np.full_like(value, np.nan)}, **options)
        with pytest.raises(ValueError, match=f"{name} must be an array of real numbers"):
            from_published(kind, given | {name: "text"}, **options)
    with pytest.raises(ValueError, match=f"extra is no array of published {kind} weights"):
        from_published(kind, given | {"extra": np.zeros(3)}, **options)


def test_kinds_and_options_that_there_are_not_are_refused():
    """With those that there are."""
    with pytest.raises(ValueError, match=r"kind must be one of \[.*'l2l'.*\], .* got 'l2o'"):
        from_published("l2o", fake_l2l())
    with pytest.raises(ValueError, match=r"reset.* it takes hidden_sizes"):
        from_published("l2l", fake_l2l(), reset=20)
    with pytest.raises(ValueError, match="arrays must be a dict"):
        from_published("l2l", [1])
    assert set(FAKES) <= set(KINDS)


@pytest.mark.parametrize("kind", OPTIONS)
def test_the_length_of_training_must_be_given(kind):
    """In one sentence, before the arrays are looked at; an unknown option as for other kinds."""
    with pytest.raises(ValueError, match=rf"^Published {kind} weights need num_steps, .*\.$"):
        from_published(kind, FAKES[kind])
    with pytest.raises(ValueError, match="num_steps must be"):
        from_published(kind, FAKES[kind], num_steps=0)
    with pytest.raises(ValueError, match=r"reset_every.* it takes num_steps"):
        from_published(kind, FAKES[kind], num_steps=10, reset_every=20)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    """Absent, damaged, or with objects inside, which NumPy would unpickle."""
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_published("l2l", tmp_path / "none.npz")
    np.savez(tmp_path / "objects.npz", **{"linear.w": np.array([{}], dtype=object)})
    for name in ("objects.npz", "damaged.npz", "damaged.safetensors", "damaged.state"):
        path = tmp_path / name
        if name.startswith("damaged"):
            path.write_bytes(b"\xc1 not this")
        with pytest.raises(ValueError, match=f"{name} cannot be read .* Nothing is unpickled"):
            load_published("l2l", path)


def test_load_published_is_exported():
    """From the package itself too."""
    assert l2ljax.load_published is load_published
