"""`scale_by_lstm`: minus the network's output, and nothing else, is the direction to descend."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.optimizers import lstm
from l2ljax.optimizers.networks import CoordinatewiseLSTM
from l2ljax.optimizers.preprocess import identity
from l2ljax.optimizers.transform import (
    ScaleByLSTMState,
    add_lstm,
    init_meta_params,
    scale_by_lstm,
)

NETWORK = CoordinatewiseLSTM((3, 2), output_scale=0.5)
LINEAR = CoordinatewiseLSTM((), identity(), output_scale=0.25)  # scale * (readout g + bias)


def draw(seed):
    """A tree of normal numbers."""
    normal = np.random.default_rng(seed).normal
    return {"w": jnp.float32(normal(size=(2, 3))), "b": jnp.float32(normal(size=2))}


def meta_params_of(network):
    """Fresh weights."""
    return jax.jit(lambda key: init_meta_params(network, key))(jax.random.key(0))


def is_params(node):
    """Whether the node of a state is a tree like the parameters."""
    return isinstance(node, dict)


TX = add_lstm(meta_params_of(NETWORK), NETWORK)
jitted_update = jax.jit(TX.update)


def linear_meta_params(slope, offset):
    """Meta-parameters that make `LINEAR` the function slope g + offset, times its scale."""
    return {"params": {"readout": jnp.float32([slope]), "readout_bias": jnp.float32(offset)}}


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
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), updates, expected)


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
    jax.tree.map(np.testing.assert_array_equal, state, expected)


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


def bounded_linear(slope, offset=0.0, **options):
    """u = (slope g + offset) / 4 for each coordinate, with options of `add_lstm`."""
    return add_lstm(linear_meta_params(slope, offset), LINEAR, **options)


def test_a_bound_cuts_larger_updates_and_leaves_smaller_ones_as_they_are():
    """To the bound, with their sign; the others and the state are the same to the last bit."""
    plain, bounded = bounded_linear(-1.0), bounded_linear(-1.0, max_update=0.5)
    gradient = jnp.float32([-9.0, -1.0, 0.0, 0.3, 2.0, 1e30])
    updates, state = bounded.update(gradient, bounded.init(gradient))
    np.testing.assert_array_equal(updates, jnp.float32([0.5, 0.25, 0.0, -0.3 / 4, -0.5, -0.5]))
    assert jax.tree.structure(state) == jax.tree.structure(plain.init(gradient))

    loose = add_lstm(meta_params_of(NETWORK), NETWORK, max_update=100.0, nonfinite="skip")
    expected, expected_state = jitted_update(draw(1), TX.init(draw(0)))
    same, same_state = jax.jit(loose.update)(draw(1), loose.init(draw(0)))
    jax.tree.map(np.testing.assert_array_equal, (same, same_state), (expected, expected_state))


def test_a_cut_update_has_no_derivative_and_a_smaller_one_its_own():
    """d u / d slope = g / 4 inside the bound, as by finite differences, and 0 outside."""

    def update(slope, gradient):
        tx = bounded_linear(slope, max_update=0.5)
        return tx.update(gradient, tx.init(gradient))[0]

    for gradient, expected in ((0.8, 0.2), (-1.0, -0.25), (40.0, 0.0), (-40.0, 0.0)):
        got = jax.grad(update)(jnp.float32(-1.0), jnp.float32(gradient))
        difference = update(jnp.float32(-0.99), jnp.float32(gradient)) - update(
            jnp.float32(-1.01), jnp.float32(gradient)
        )
        np.testing.assert_allclose(got, expected, atol=1e-6)
        np.testing.assert_allclose(difference / 0.02, expected, atol=1e-4)


def test_a_bound_can_be_an_injected_hyperparam():
    """And then be changed between two steps."""
    make = optax.inject_hyperparams(lambda max_update: bounded_linear(-1.0, max_update=max_update))
    tx = make(max_update=0.5)
    first, state = jax.jit(tx.update)(jnp.float32([8.0]), tx.init(jnp.zeros(1)))
    second, _ = tx.update(jnp.float32([8.0]), optax.tree.set(state, max_update=jnp.float32(0.25)))
    assert (float(first[0]), float(second[0])) == (-0.5, -0.25)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_skipped_coordinates_stand_still_and_go_on_as_if_nothing_had_been(bad):
    """Update 0, state as before; the next finite gradient meets the state it would have met."""
    tx = add_lstm(meta_params_of(NETWORK), NETWORK, nonfinite="skip")
    update = jax.jit(tx.update)
    _, state = update(draw(1), tx.init(draw(0)))
    sick = draw(2) | {"b": draw(2)["b"].at[1].set(bad)}
    skipped, after = update(sick, state)
    healthy, after_healthy = update(draw(2), state)
    assert skipped["b"][1] == 0
    assert skipped["b"][0] == healthy["b"][0]
    np.testing.assert_array_equal(skipped["w"], healthy["w"])
    pairs = zip(jax.tree.leaves(after.carry), jax.tree.leaves(after_healthy.carry), strict=True)
    for (mine, theirs), before in zip(pairs, jax.tree.leaves(state.carry), strict=True):
        if mine.ndim == 2:  # [hidden, 2]: the vector's
            np.testing.assert_array_equal(mine[:, 1], before[:, 1])
            np.testing.assert_array_equal(mine[:, 0], theirs[:, 0])
        else:
            np.testing.assert_array_equal(mine, theirs)
    assert after.count == after_healthy.count == 2


def test_skipping_covers_gradients_that_only_the_network_cannot_hold():
    """A float64 that float32 has no room for, and a product that overflows."""
    with jax.enable_x64(True):
        tx = bounded_linear(-1.0, nonfinite="skip")
        gradient = jnp.array([1e300, 2.0])
        assert tx.update(gradient, tx.init(gradient))[0].tolist() == [0.0, -0.5]
    tx = bounded_linear(1e30, nonfinite="skip")
    gradient = jnp.float32([1e20, 4e-30])
    np.testing.assert_allclose(tx.update(gradient, tx.init(gradient))[0], [0.0, 1.0], rtol=1e-6)


def test_skipping_keeps_the_meta_gradient_finite():
    """The derivative with respect to the weights is that of the other coordinates alone."""

    def total(meta_params, gradient):
        tx = add_lstm(meta_params, NETWORK, nonfinite="skip")
        first, state = tx.update(gradient, tx.init(gradient))
        second, _ = tx.update(gradient, state)
        return sum(jnp.sum(leaf) for leaf in (first, second))

    grad = jax.jit(jax.grad(total))
    sick = grad(meta_params_of(NETWORK), jnp.float32([0.5, jnp.nan, jnp.inf, -2.0]))
    alone = grad(meta_params_of(NETWORK), jnp.float32([0.5, -2.0]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), sick, alone)


@pytest.mark.parametrize("nonfinite", ["propagate", "skip"])
def test_a_coordinate_without_gradient_can_be_held(nonfinite):
    """It stands still and its state waits; by default a network with an offset moves it on."""
    drifting = bounded_linear(-1.0, offset=2.0)
    assert drifting.update(jnp.zeros(1), drifting.init(jnp.zeros(1)))[0] == 0.5
    tx = add_lstm(meta_params_of(NETWORK), NETWORK, nonfinite=nonfinite, hold_zeros=True)
    seen, alone = tx.init(jnp.zeros(2)), tx.init(jnp.zeros(1))
    update = jax.jit(tx.update)
    for gradient in (0.5, 0.0, -2.0, 0.0):
        updates, seen = update(jnp.float32([gradient, 0.0]), seen)
        assert updates[1] == 0
        if gradient:
            expected, alone = update(jnp.float32([gradient]), alone)
            np.testing.assert_allclose(updates[0], expected[0], rtol=1e-5)
        else:
            assert updates[0] == 0
    for both, one in zip(jax.tree.leaves(seen.carry), jax.tree.leaves(alone.carry), strict=True):
        np.testing.assert_allclose(both[:, :1], one, rtol=1e-5)
        assert not both[:, 1].any()


def test_a_network_taken_for_a_schedule_says_what_to_do_and_that_works():
    """`optax.inject_hyperparams` calls what can be called, unless it is told not to."""
    arguments = (linear_meta_params(-1.0, 0.0), LINEAR)
    wrong = optax.inject_hyperparams(scale_by_lstm)(*arguments, max_update=0.5)
    with pytest.raises(TypeError, match=r'give static_args=\("network", "block_size"\)'):
        wrong.init(jnp.zeros(1))
    make = optax.inject_hyperparams(scale_by_lstm, static_args=("network", "block_size"))
    tx = make(*arguments, max_update=0.5)
    state = tx.init(jnp.zeros(1))
    assert jax.jit(tx.update)(jnp.float32([8.0]), state)[0] == 0.5
    state = optax.tree.set(state, max_update=jnp.float32(0.25))
    assert jax.jit(tx.update)(jnp.float32([8.0]), state)[0] == 0.25


def test_apply_if_finite_skips_the_whole_step():
    """The default composes with Optax's own answer: no update, and a state without NaN."""
    tx = optax.apply_if_finite(TX, max_consecutive_errors=5)
    update = jax.jit(tx.update)
    _, state = update(draw(1), tx.init(draw(0)))
    sick = draw(2) | {"b": draw(2)["b"].at[1].set(jnp.nan)}
    skipped, after = update(sick, state)
    assert not any(leaf.any() for leaf in jax.tree.leaves(skipped))
    assert int(after.total_notfinite) == 1
    jax.tree.map(np.testing.assert_array_equal, after.inner_state, state.inner_state)
    expected, _ = update(draw(2), state)
    again, _ = update(draw(2), after)
    jax.tree.map(np.testing.assert_array_equal, again, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_update": 0.0}, "max_update must be a finite number above 0, got 0.0"),
        ({"max_update": -1}, "max_update must be"),
        ({"max_update": float("nan")}, "max_update must be"),
        ({"max_update": float("inf")}, "max_update must be"),
        ({"max_update": "0.1"}, "max_update must be"),
        ({"max_update": True}, "max_update must be"),
        ({"max_update": jnp.ones(2)}, "max_update must be"),
        ({"nonfinite": "zero"}, "nonfinite must be one of"),
        ({"nonfinite": None}, "nonfinite must be one of"),
        ({"hold_zeros": 1}, "hold_zeros must be True or False, got 1"),
        ({"block_size": 2.0}, "block_size must be"),
    ],
)
def test_options_of_another_kind_are_refused(options, message):
    """By `scale_by_lstm` and, before any meta-parameters are made, by `lstm`."""
    with pytest.raises(ValueError, match=message):
        scale_by_lstm(meta_params_of(NETWORK), NETWORK, **options)
    with pytest.raises(ValueError, match=message):
        lstm((3,), **options)


def test_a_network_of_another_kind_is_refused():
    """With its value."""
    with pytest.raises(TypeError, match="network must be a CoordinatewiseLSTM, got 'lstm'"):
        scale_by_lstm(meta_params_of(NETWORK), "lstm")  # pyright: ignore[reportArgumentType]
