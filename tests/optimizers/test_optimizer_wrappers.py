"""Every learned optimizer inside Optax's, flax's and Orbax's own containers.

What a wrapper must give follows from its definition and the bare transformation's updates.
"""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import orbax.checkpoint as ocp
import pytest
from flax import nnx, serialization
from flax.training.train_state import TrainState
from optimizer_cases import (
    Params,
    assert_close,
    counts,
    draw,
    every_optimizer,
    fresh,
    fresh_meta_params,
    jitted_update,
    run,
)

GRADIENTS = [draw(1), draw(2), draw(3)]


def bare(optimizer, gradients):
    """The updates without any wrapper, and the state after them."""
    return run(jitted_update(optimizer), fresh(optimizer).init(draw(0)), gradients)


@pytest.mark.parametrize("mask", [(True,) * 3, (True, False, True), (False,) * 3], ids=str)
@every_optimizer
def test_masked_passes_the_gradients_of_the_others(optimizer, mask):
    """All, some and no parameters masked in."""
    tx = optax.masked(fresh(optimizer), Params(*mask))
    updates, _ = run(tx.update, tx.init(draw(0)), GRADIENTS)
    learned, _ = bare(optimizer, GRADIENTS)
    masks = [Params(*mask)] * len(GRADIENTS)
    assert_close(updates, jax.tree.map(lambda m, u, g: u if m else g, masks, learned, GRADIENTS))


@every_optimizer
def test_none_can_stand_for_what_has_no_derivative(optimizer):
    """The way out that the refusal of integers and functions names, by equinox and by hand."""
    tx = fresh(optimizer)
    model = {"w": draw(0).vector, "step": jnp.int32(7), "activation": jnp.tanh}
    for leaf, kind in (("step", "has dtype int32"), ("activation", "is <")):
        with pytest.raises(TypeError, match=f"{leaf} {kind}.*None in its place.*equinox.partition"):
            tx.init({"w": model["w"], leaf: model[leaf]})
    trained, rest = eqx.partition(model, eqx.is_inexact_array)
    assert rest["step"] == 7
    gradient = jax.grad(lambda p: jnp.sum(p["w"] * draw(1).vector))(trained)
    updates, _ = tx.update(gradient, tx.init(trained))
    expected = bare(optimizer, GRADIENTS)[0][0].vector
    assert_close(updates, {"w": expected, "step": None, "activation": None})
    whole = eqx.combine(optax.apply_updates(trained, updates), rest)
    assert_close(whole["w"], draw(0).vector + expected)


@every_optimizer
def test_partition_freezes_a_group(optimizer):
    """Frozen parameters get zeros, the learned ones their updates."""
    labels = Params("learned", "frozen", "learned")
    tx = optax.partition({"learned": fresh(optimizer), "frozen": optax.set_to_zero()}, labels)
    updates, _ = run(tx.update, tx.init(draw(0)), GRADIENTS)
    expected = [u._replace(vector=jnp.zeros(4)) for u in bare(optimizer, GRADIENTS)[0]]
    assert_close(updates, expected)


@every_optimizer
def test_chain_and_schedule_and_injected_hyperparams_compose(optimizer):
    """Gradient times 2 before; update times t + 1, then -0.5 after: all in one pipeline."""
    tx = optax.named_chain(
        ("double", optax.scale(2.0)),
        ("learned", optax.chain(fresh(optimizer), optax.scale_by_schedule(lambda t: t + 1.0))),
        ("flip", optax.inject_hyperparams(optax.scale)(step_size=-0.5)),
    )
    updates, state = run(tx.update, tx.init(draw(0)), GRADIENTS)
    doubled, _ = bare(optimizer, optax.tree.scale(2.0, GRADIENTS))
    assert_close(updates, [optax.tree.scale(-0.5 * (t + 1), u) for t, u in enumerate(doubled)])
    assert {int(count) for count in counts(state["learned"])} == {3}


@every_optimizer
def test_inject_hyperparams_wraps_the_transformation_itself(optimizer):
    """A hyperparameter that scales the updates can be set in the state between two steps."""
    tx = optax.inject_hyperparams(lambda rate: optax.chain(fresh(optimizer), optax.scale(rate)))(
        2.0
    )
    first, state = tx.update(GRADIENTS[0], tx.init(draw(0)))
    second, _ = tx.update(GRADIENTS[1], optax.tree.set(state, rate=jnp.float32(-3.0)))
    expected, _ = bare(optimizer, GRADIENTS)
    assert_close(first, optax.tree.scale(2.0, expected[0]))
    assert_close(second, optax.tree.scale(-3.0, expected[1]))


@every_optimizer
def test_multi_steps_updates_with_the_mean_gradient(optimizer):
    """Every second step one update, from the mean of two gradients."""
    tx = optax.MultiSteps(fresh(optimizer), every_k_schedule=2).gradient_transformation()
    updates, state = run(jax.jit(tx.update), tx.init(draw(0)), [draw(1), draw(2), draw(3), draw(4)])
    means = [optax.tree.scale(0.5, optax.tree.add(draw(i), draw(i + 1))) for i in (1, 3)]
    expected, _ = bare(optimizer, means)
    nothing = optax.tree.zeros_like(draw(0))
    assert_close(updates, [nothing, expected[0], nothing, expected[1]], rtol=1e-4)
    assert {int(count) for count in counts(state)} == {2}


@every_optimizer
def test_apply_if_finite_skips_a_step(optimizer):
    """A NaN gradient gives zero updates and leaves the state as if it never came."""
    tx = optax.apply_if_finite(fresh(optimizer), max_consecutive_errors=3)
    sick = draw(9)._replace(scalar=jnp.float32(jnp.nan))
    updates, state = run(jax.jit(tx.update), tx.init(draw(0)), [GRADIENTS[0], sick, GRADIENTS[1]])
    expected, bare_state = bare(optimizer, GRADIENTS[:2])
    assert_close(updates, [expected[0], optax.tree.zeros_like(sick), expected[1]])
    assert_close(state.inner_state, bare_state)


@every_optimizer
def test_lookahead_follows_the_fast_weights(optimizer):
    """After two fast steps both copies stand half way between the slow weights and the fast."""
    tx = optax.lookahead(fresh(optimizer), sync_period=2, slow_step_size=0.5)
    start = optax.LookaheadParams.init_synced(draw(0))
    params, state = start, tx.init(start)
    for gradient in GRADIENTS[:2]:
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    first, second = bare(optimizer, GRADIENTS[:2])[0]
    half_way = jax.tree.map(lambda p, a, b: p + 0.5 * (a + b), draw(0), first, second)
    assert_close(params, optax.LookaheadParams(half_way, half_way), atol=1e-7)


@every_optimizer
def test_flatten_treats_the_parameters_as_one_vector(optimizer):
    """Two leaves get what one vector of both gets."""
    tx = optax.flatten(fresh(optimizer))
    gradients = [{"a": gradient.vector[:1], "b": gradient.vector[1:]} for gradient in GRADIENTS]
    updates, _ = run(tx.update, tx.init(gradients[0]), gradients)
    vectors = [update.vector for update in bare(optimizer, GRADIENTS)[0]]
    assert_close(updates, [{"a": vector[:1], "b": vector[1:]} for vector in vectors])


@every_optimizer
def test_complex_parameters_work_as_pairs_of_reals(optimizer):
    """`split_real_and_imaginary`, which the refusal of a complex leaf names."""
    tx = optax.contrib.split_real_and_imaginary(fresh(optimizer))
    real, imaginary = GRADIENTS[:2]
    gradient = real.vector + 1j * imaginary.vector
    update, _ = tx.update({"z": gradient}, tx.init({"z": gradient}))
    of_real, of_imaginary = (bare(optimizer, [part])[0][0].vector for part in (real, imaginary))
    assert_close(update, {"z": of_real + 1j * of_imaginary})


@every_optimizer
def test_train_state_of_a_linen_module_takes_a_step(optimizer):
    """flax's TrainState adds the updates to the parameters of a linen module."""
    params = nn.Dense(8).init(jax.random.key(0), jnp.ones(6))
    gradient = {"params": {"kernel": draw(1).matrix, "bias": draw(1).matrix[0]}}
    state = TrainState.create(apply_fn=None, params=params, tx=fresh(optimizer))
    stepped = state.apply_gradients(grads=gradient)
    updates, _ = fresh(optimizer).update(gradient, state.opt_state)
    assert_close(stepped.params, jax.tree.map(jnp.add, params, updates))
    assert {int(count) for count in counts(stepped.opt_state)} == {1}


@every_optimizer
def test_nnx_optimizer_takes_a_step(optimizer):
    """So does nnx.Optimizer with those of an nnx module."""
    model = nnx.Linear(6, 8, rngs=nnx.Rngs(0))
    params = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))
    gradient = nnx.State(
        {"kernel": nnx.Param(draw(1).matrix), "bias": nnx.Param(draw(1).matrix[0])}
    )
    nnx.Optimizer(model, fresh(optimizer), wrt=nnx.Param).update(model, gradient)
    tx = fresh(optimizer)
    updates, _ = tx.update(gradient, tx.init(params))
    assert_close(nnx.state(model, nnx.Param), jax.tree.map(jnp.add, params, updates))


@every_optimizer
def test_checkpoints_restore_state_and_meta_params(optimizer, tmp_path):
    """Orbax and flax.serialization give back the same arrays in the same types."""
    _, state = bare(optimizer, GRADIENTS)
    saved = {"state": state, "meta_params": fresh_meta_params(optimizer)}
    blank = {
        "state": fresh(optimizer).init(draw(0)),
        "meta_params": fresh_meta_params(optimizer, 2),
    }
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "checkpoint", saved)
        checkpointer.wait_until_finished()
        orbax = checkpointer.restore(tmp_path / "checkpoint", blank)
    flax = serialization.from_bytes(blank, serialization.to_bytes(saved))
    for restored in (orbax, flax):
        assert jax.tree.structure(restored) == jax.tree.structure(saved)
        for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(saved), strict=True):
            np.testing.assert_array_equal(a, b, strict=True)
