"""`scale_by_lstm`: minus the network's output, and nothing else, is the direction to descend."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from lstm_cases import (
    LINEAR,
    NETWORK,
    TX,
    draw,
    is_params,
    jitted_update,
    linear_meta_params,
    meta_params_of,
)

from l2ljax import optimizers
from l2ljax.optimizers import lstm
from l2ljax.optimizers.transform import (
    ScaleByLSTMState,
    add_lstm,
    scale_by_lstm,
)


def test_updates_are_the_networks_output():
    """Leaf by leaf, step by step, with the network's own carry as the state."""
    meta_params, state = meta_params_of(NETWORK), TX.init(draw(0))
    apply = jax.jit(NETWORK.apply)
    carries = {
        name: jax.tree.map(lambda tree, name=name: tree[name], state.carry, is_leaf=is_params)
        for name in draw(0)
    }
    for step in (1, 2):
        updates, state = jitted_update(draw(step), state)
        for name, gradient in draw(step).items():
            carries[name], expected = apply(meta_params, carries[name], gradient)
            np.testing.assert_allclose(updates[name], expected, rtol=1e-5, atol=1e-9)


def test_state_is_zero_with_the_hidden_axis_first():
    """`[hidden, *param.shape]` in trees like the parameters, and a count."""
    state = TX.init(draw(0))
    assert isinstance(state, ScaleByLSTMState)
    assert state.count == 0
    for layer, hidden in zip(state.carry, (3, 2), strict=True):
        for tree in layer:
            assert jax.tree.map(jnp.shape, tree) == {"w": (hidden, 2, 3), "b": (hidden, 2)}
            assert not any(leaf.any() for leaf in jax.tree.leaves(tree))


def of_optax(*after):
    """`scale_by_lstm` of a network that computes -2 g, times its scale of 1/4, then `after`."""
    return optax.chain(scale_by_lstm(linear_meta_params(-2.0, 0.0), LINEAR), *after)


def test_a_learning_rate_follows_as_after_any_scale_by():
    """A network whose additive update is -g / 2 is SGD at 1/2; a rate of 0.3 makes it 0.15."""
    for rate in (1.0, 0.3):
        tx, sgd = of_optax(optax.scale_by_learning_rate(rate)), optax.sgd(0.5 * rate)
        updates, _ = tx.update(draw(1), tx.init(draw(0)))
        expected, _ = sgd.update(draw(1), sgd.init(draw(0)))
        chex.assert_trees_all_close(updates, expected, rtol=1e-6)


def test_a_learning_rate_scales_the_learned_optimizers_own_updates():
    """0.3 times what `lstm(...).transform` adds, over three steps with state."""
    optimizer = lstm((3, 2), output_scale=0.5)
    tx = optax.chain(
        scale_by_lstm(meta_params_of(NETWORK), NETWORK), optax.scale_by_learning_rate(0.3)
    )
    complete = optimizer.transform(meta_params_of(NETWORK))
    state, complete_state = tx.init(draw(0)), complete.init(draw(0))
    for seed in (1, 2, 3):
        updates, state = tx.update(draw(seed), state)
        additive, complete_state = complete.update(draw(seed), complete_state)
        for name in updates:
            np.testing.assert_allclose(updates[name], 0.3 * additive[name], rtol=1e-6)


def test_weights_decay_in_the_order_of_adamw():
    """A network that proposes nothing leaves (1 - rate decay)^t of them, through a schedule too."""
    nothing = scale_by_lstm(linear_meta_params(0.0, 0.0), LINEAR)
    rates = (1.0, 0.5)
    tx = optax.chain(
        nothing,
        optax.add_decayed_weights(1e-2),
        optax.scale_by_learning_rate(lambda step: jnp.asarray(rates)[step]),
    )
    params, state = draw(0), tx.init(draw(0))
    for seed in (1, 2):
        updates, state = tx.update(draw(seed), state, params)
        params = optax.apply_updates(params, updates)
    left = (1 - 1e-2) * (1 - 0.5e-2)
    jax.tree.map(lambda p, p0: np.testing.assert_allclose(p, left * p0, rtol=1e-6), params, draw(0))


def test_its_state_is_that_of_the_complete_transformation():
    """So a checkpoint of one goes on in the other."""
    signed, additive = scale_by_lstm(meta_params_of(NETWORK), NETWORK), TX
    _, state = signed.update(draw(1), signed.init(draw(0)))
    _, expected = additive.update(draw(1), additive.init(draw(0)))
    assert isinstance(state, ScaleByLSTMState)
    chex.assert_trees_all_equal(state, expected)


def test_output_scale_multiplies_the_whole_output():
    """A network that says 3 whatever the gradient moves every parameter by 3/4."""
    tx = add_lstm(linear_meta_params(0.0, 3.0), LINEAR)
    updates, _ = tx.update(draw(1), tx.init(draw(0)))
    assert all((leaf == 0.75).all() for leaf in jax.tree.leaves(updates))


def test_output_scale_can_be_an_injected_hyperparam():
    """And then be changed between two steps, though the network is static elsewhere."""

    def make(output_scale):
        network = LINEAR.clone(output_scale=output_scale)
        return add_lstm(linear_meta_params(-1.0, 0.0), network)

    tx = optax.inject_hyperparams(make)(output_scale=0.5)
    first, state = jax.jit(tx.update)(draw(1), tx.init(draw(0)))
    second, _ = tx.update(draw(1), optax.tree.set(state, output_scale=jnp.float32(2.0)))
    np.testing.assert_allclose(first["w"], -0.5 * draw(1)["w"], rtol=1e-6)
    np.testing.assert_allclose(second["w"], -2.0 * draw(1)["w"], rtol=1e-6)


def test_python_floats_are_parameters_too():
    """As in Optax: they become float32 arrays."""
    tx = add_lstm(linear_meta_params(-1.0, 0.0), LINEAR)
    updates, _ = tx.update({"x": 2.0}, tx.init({"x": 1.0}))
    assert updates["x"].dtype == jnp.float32
    assert updates["x"] == -0.5


def test_a_scan_is_a_python_loop():
    """Five steps, each with its own gradient."""
    gradients = [draw(seed) for seed in range(1, 6)]
    looped, state = [], TX.init(draw(0))
    for gradient in gradients:
        updates, state = jitted_update(gradient, state)
        looped.append(updates)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *gradients)
    last, scanned = jax.lax.scan(lambda s, g: TX.update(g, s)[::-1], TX.init(draw(0)), stacked)
    for name in ("w", "b"):
        expected = np.stack([updates[name] for updates in looped])
        np.testing.assert_allclose(scanned[name], expected, rtol=1e-5, atol=1e-9)
    assert last.count == state.count == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {k: v for k, v in p.items() if k != "bias_1"}, "lacks the leaf params/bias_1"),
        (
            lambda p: p | {"kernel_0": jnp.zeros((12, 6))},
            r"shape \(12, 6\) at params/kernel_0, expe",
        ),
        (
            lambda p: p | {"kernel_2": jnp.zeros(3)},
            "has a leaf params/kernel_2 that is not expected",
        ),
        (lambda p: {}, "lacks the leaf params/.* no leaf at all"),
    ],
    ids=["missing", "shape", "extra", "empty"],
)
def test_meta_params_of_another_network_are_refused_by_leaf(change, message):
    """When the transformation is made, with what to do."""
    other = {"params": change(meta_params_of(NETWORK)["params"])}
    with pytest.raises(ValueError, match=f"meta_params .*{message}.*hidden_sizes=\\(3, 2\\)"):
        scale_by_lstm(other, NETWORK)


def test_meta_params_without_their_outer_dict_are_refused():
    """A structure that differs above the leaves is named too."""
    with pytest.raises(ValueError, match="meta_params lacks the leaf params/bias_0"):
        scale_by_lstm(meta_params_of(NETWORK)["params"], NETWORK)


@pytest.mark.parametrize(
    "gradient",
    [
        {"w": jnp.ones((3, 2)), "b": jnp.ones(2)},
        {"w": jnp.ones((2, 3)), "b": jnp.ones(())},
        {"w": jnp.ones((2, 3))},
        {"w": jnp.ones((2, 3)), "b": jnp.ones(2), "c": jnp.ones(2)},
        {"w": jnp.ones((2, 3)), "b": None},
        [jnp.ones(2), jnp.ones((2, 3))],
    ],
    ids=["transposed", "scalar", "missing", "extra", "None", "list"],
)
def test_gradients_unlike_the_parameters_are_refused(gradient):
    """A shape that would broadcast included."""
    with pytest.raises(ValueError, match="gradients like the parameters that init"):
        TX.update(gradient, TX.init(draw(0)))


def test_factors_are_injected_in_optaxs_usual_way():
    """`optax.inject_hyperparams` calls what can be called, and makes arrays of numbers."""
    tx = optax.inject_hyperparams(scale_by_lstm)(
        linear_meta_params(-1.0, 0.0), LINEAR, max_update=0.5
    )
    state = tx.init(jnp.zeros(1))
    assert jax.jit(tx.update)(jnp.float32([8.0]), state)[0] == 0.5
    state = optax.tree.set(state, max_update=jnp.float32(0.25))
    assert jax.jit(tx.update)(jnp.float32([8.0]), state)[0] == 0.25


@pytest.mark.parametrize(
    "name", ["rnnprop", "small_fc", "celo2", "nominal", "celo", "celo_adam", "velo"]
)
def test_every_rule_is_injected(name):
    """By its defaults alone; where a length is wanted, the sentence's advice works."""
    length = {"num_steps": 50} if name in ("celo", "celo_adam", "velo") else {}
    meta_params = getattr(optimizers, name)(**length).init(jax.random.key(0))
    scale_by = getattr(optimizers, f"scale_by_{name}")
    params, inject = {"w": jnp.ones((3, 2))}, optax.inject_hyperparams
    if length:
        with pytest.raises(ValueError, match='add static_args="num_steps"'):
            inject(scale_by)(meta_params, **length).init(params)
    static = {"static_args": "num_steps"} if length else {}
    tx, plain = inject(scale_by, **static)(meta_params, **length), scale_by(meta_params, **length)
    value = jnp.float32(1.0)
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params, value=value)
    expected, _ = jax.jit(plain.update)(params, plain.init(params), params, value=value)
    np.testing.assert_allclose(updates["w"], expected["w"], rtol=1e-5)


@pytest.mark.parametrize("length", ["num_steps", "rest_after"])
def test_an_injected_length_says_what_to_do_and_that_works(length):
    meta_params = optimizers.nominal(**{length: 50}).init(jax.random.key(0))
    make, params = optimizers.scale_by_nominal, jnp.ones(3)
    with pytest.raises(ValueError, match=f'{length} must .* add static_args="{length}"'):
        optax.inject_hyperparams(make)(meta_params, **{length: 50}).init(params)
    tx = optax.inject_hyperparams(make, static_args=length)(meta_params, **{length: 50})
    plain = make(meta_params, **{length: 50})
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
    expected, _ = plain.update(params, plain.init(params), params)
    np.testing.assert_allclose(updates, expected, rtol=1e-5)


def test_an_injected_block_size_says_what_to_do_and_that_works():
    arguments = (linear_meta_params(-1.0, 0.0), LINEAR)
    with pytest.raises(ValueError, match='add static_args="block_size"'):
        optax.inject_hyperparams(scale_by_lstm)(*arguments, block_size=2).init(jnp.zeros(3))
    make = optax.inject_hyperparams(scale_by_lstm, static_args="block_size")
    tx = make(*arguments, block_size=2)
    updates, _ = jax.jit(tx.update)(jnp.float32([8.0, 4.0, 2.0]), tx.init(jnp.zeros(3)))
    np.testing.assert_allclose(updates, [2.0, 1.0, 0.5])  # LINEAR's output is scaled by 1 / 4


def test_apply_if_finite_skips_the_whole_step():
    """The default composes with Optax's own answer: no update, and a state without NaN."""
    tx = optax.apply_if_finite(TX, max_consecutive_errors=5)
    update = jax.jit(tx.update)
    _, state = update(draw(1), tx.init(draw(0)))
    sick = draw(2) | {"b": draw(2)["b"].at[1].set(jnp.nan)}
    skipped, after = update(sick, state)
    assert not any(leaf.any() for leaf in jax.tree.leaves(skipped))
    assert int(after.total_notfinite) == 1
    chex.assert_trees_all_equal(after.inner_state, state.inner_state)
    expected, _ = update(draw(2), state)
    again, _ = update(draw(2), after)
    chex.assert_trees_all_equal(again, expected)
