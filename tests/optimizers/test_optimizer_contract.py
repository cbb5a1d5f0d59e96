"""What every learned optimizer is: one contract, held for each line of `optimizer_cases.CASES`."""

import chex
import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from optimizer_cases import (
    assert_close,
    counts,
    draw,
    every_optimizer,
    fresh,
    fresh_meta_params,
    jitted_update,
    needs_coordinates,
    run,
    stack,
    transformation,
)


def dtypes_of(tree):
    return jax.tree.map(lambda leaf: leaf.dtype, tree)


@every_optimizer
def test_is_an_optax_transformation_that_needs_no_params_and_ignores_unknown_extras(optimizer):
    """`update` takes `params=None` and whatever extra argument its neighbours want."""
    tx = fresh(optimizer)
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    state = tx.init(draw(0))
    plain = tx.update(draw(1), state)
    assert_close(tx.update(draw(1), state, None, value=1.0, value_fn=abs), plain)
    assert_close(tx.update(draw(1), state, draw(0), value=jnp.array(2.0)), plain)


@every_optimizer
def test_state_is_a_named_tuple_whose_int32_count_saturates(optimizer):
    """The count is 0, 1, 2, ... and stays at the largest int32."""
    update, state = jitted_update(optimizer), fresh(optimizer).init(draw(0))
    assert isinstance(state, tuple)
    assert hasattr(state, "_fields")
    assert {jax.typeof(count) for count in counts(state)} == {jax.typeof(jnp.int32(0))}
    for expected in range(3):
        assert {int(count) for count in counts(state)} == {expected}
        _, state = update(draw(1), state)
    largest = jnp.array(2**31 - 1, jnp.int32)
    # `optax.tree.set` would not look inside a state that has a count itself.
    state = jax.tree_util.tree_map_with_path(
        lambda path, leaf: largest if getattr(path[-1], "name", "") == "count" else leaf, state
    )
    _, state = update(draw(1), state)
    assert {int(count) for count in counts(state)} == {2**31 - 1}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@every_optimizer
def test_updates_keep_the_gradient_dtype_and_the_state_its_own(optimizer, dtype):
    """The state is float32, or as small as asked for, whatever the gradients; also in x64 mode."""
    tx = fresh(optimizer)
    with jax.enable_x64(True):
        state = jax.eval_shape(tx.init, draw(0, dtype))
        updates, next_state = jax.eval_shape(tx.update, draw(1, dtype), state)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(updates)} == {dtype}
    assert dtypes_of(state) == dtypes_of(next_state)
    assert dtypes_of(state) == dtypes_of(tx.init(draw(0)))
    narrow = {"float32", "bfloat16", "int32"}
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(state)} <= narrow


@every_optimizer
def test_x64_mode_changes_neither_the_state_nor_its_types(optimizer):
    """Meta-parameters are drawn in that mode; parameters are float32, one of them is empty."""
    with jax.enable_x64(True):
        tx = transformation(optimizer, optimizer.init(jax.random.key(1)))
        params = draw(0)._replace(vector=jnp.zeros(0, jnp.float32))
        state = jax.eval_shape(tx.init, params)
        updates, next_state = jax.eval_shape(tx.update, params, state)
    assert dtypes_of(updates) == dtypes_of(params)
    assert dtypes_of(next_state) == dtypes_of(state)


@every_optimizer
def test_a_tree_of_mixed_dtypes_gets_the_updates_of_float32(optimizer):
    """Gradients are cast on the way in, updates on the way out: the same up to that rounding."""
    tx, values = fresh(optimizer), jnp.array([0.25, -1.5, 0.0, 96.0])  # exact in every dtype
    with jax.enable_x64(True):
        dtypes = ["float16", "bfloat16", "float32", "float64"]
        gradient = {dtype: values.astype(dtype) for dtype in dtypes}
        updates, _ = jax.jit(lambda g: tx.update(g, tx.init(g)))(gradient)
        for dtype in dtypes:
            tolerance = {"rtol": float(jnp.finfo(dtype).eps), "atol": 1e-7}
            assert_close(updates[dtype], updates["float32"].astype(dtype), **tolerance)


@every_optimizer
def test_state_types_are_stable_and_the_update_is_traced_once(optimizer):
    """Shapes, dtypes, weak types and shardings stay, from `init` on: a `lax.scan` carry."""
    tx = fresh(optimizer)
    chex.clear_trace_counter()  # it counts by name, over all cases

    @jax.jit
    @chex.assert_max_traces(1)
    def update(gradient, state):
        return tx.update(gradient, state)

    gradients = [draw(seed) for seed in (1, 2, 3)]
    first = tx.init(draw(0))
    looped, last = run(update, first, gradients)
    for before, after in zip(jax.tree.leaves(first), jax.tree.leaves(last), strict=True):
        assert jax.typeof(before) == jax.typeof(after)
        assert before.weak_type == after.weak_type
        assert before.sharding == after.sharding

    carry, scanned = jax.lax.scan(
        lambda s, g: tx.update(g, s)[::-1], first, jax.tree.map(stack, *gradients)
    )
    # A cell is a sum of terms of order 1: near 0 it keeps their rounding, 2^-24.
    assert_close(carry, last, atol=2**-24)
    assert_close(scanned, jax.tree.map(stack, *looped))


@every_optimizer
def test_a_fresh_state_can_be_donated_with_its_parameters(optimizer):
    """No two leaves of params and state share a buffer, and all are given up to the update."""
    tx, params = fresh(optimizer), draw(0)
    state, gradient = tx.init(params), draw(1)
    updates, next_state = tx.update(gradient, state)
    expected = optax.apply_updates(params, updates), next_state
    donated = jax.tree.leaves((params, state))
    buffers = [leaf.unsafe_buffer_pointer() for leaf in donated]
    assert len(set(buffers)) == len(buffers)

    def step(params, state, gradient):
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    assert_close(jax.jit(step, donate_argnums=(0, 1))(params, state, gradient), expected)
    assert all(leaf.is_deleted() for leaf in donated)


ARRANGEMENTS = {
    "scalar": lambda p: p.scalar,
    "array": lambda p: p.matrix,
    "zero-size": lambda p: {"empty": p.matrix[:0], "full": p.vector},
    "dict": lambda p: {"b": {"w": p.matrix}, "a": {"w": p.vector, "s": p.scalar}},
    "frozen dict": lambda p: flax.core.freeze({"w": p.matrix, "b": p.vector}),
    "list": lambda p: [p.vector, [p.matrix, p.scalar]],
    "tuple": lambda p: (p.vector, (p.matrix, p.scalar)),
    "nnx state": lambda p: nnx.State({"w": nnx.Param(p.matrix), "b": nnx.Param(p.vector)}),
    "numpy": lambda p: jax.tree.map(np.asarray, p),
    "None leaf": lambda p: {"w": p.vector, "frozen": None},
    "None": lambda p: None,
    "empty dict": lambda p: {},
    "empty nest": lambda p: ({"a": ()}, []),
}


@pytest.mark.parametrize("arrange", ARRANGEMENTS.values(), ids=ARRANGEMENTS.keys())
@every_optimizer
def test_any_tree_is_served(optimizer, arrange):
    """Updates have the gradients' tree, and a leaf's updates do not depend on the tree it is in."""
    tx, gradients = fresh(optimizer), [draw(1), draw(2)]
    reference, _ = run(jitted_update(optimizer), tx.init(draw(0)), gradients)
    updates, state = run(tx.update, tx.init(arrange(draw(0))), map(arrange, gradients))
    assert_close(updates, [arrange(update) for update in reference])
    assert {int(count) for count in counts(state)} == {2}


@every_optimizer
def test_python_floats_are_parameters_too(optimizer):
    """As in Optax: their updates are those of float32 scalars."""
    tx = fresh(optimizer)
    found, expected = (
        tx.update({"x": kind(2.0)}, tx.init({"x": kind(1.0)}))[0] for kind in (float, jnp.float32)
    )
    np.testing.assert_allclose(found["x"], expected["x"], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "complex64"])
@every_optimizer
def test_leaves_that_are_not_real_floating_are_refused_by_name(optimizer, dtype):
    """At the door of `init` and of `update`."""
    tx = fresh(optimizer)
    good = {"head": {"kernel": jnp.zeros(4), "bias": jnp.zeros(())}}
    bad = {"head": {"kernel": jnp.zeros(4, dtype), "bias": jnp.zeros(())}}
    with pytest.raises(TypeError, match=f"parameter head/kernel has dtype {dtype}"):
        tx.init(bad)
    with pytest.raises(TypeError, match=f"gradient head/kernel has dtype {dtype}"):
        tx.update(bad, tx.init(good))


@every_optimizer
def test_map_params_finds_every_state_leaf_of_a_parameter(optimizer):
    """All floating state belongs to a parameter, and has the parameter's axes last.

    But for a scheduler's, which watches the loss of them all, and what a limit of noise compares.
    """
    tx, params = fresh(optimizer), draw(0)
    watched = tx.init(params)
    of_all = hasattr(watched, "losses") or bool(jax.tree.leaves(getattr(watched, "noise", ())))

    def has_axes_last(leaf, param):
        last = leaf.shape[leaf.ndim - param.ndim :]
        averaged = optimizer.coordinate_groups is None  # over axes that stay with length 1
        pairs = zip(last, param.shape, strict=True)
        return all(a == b or (averaged and a == 1) for a, b in pairs)

    found = optax.tree.map_params(
        tx,
        lambda leaf, param: (
            [] if isinstance(leaf, optax.MaskedNode) else has_axes_last(leaf, param)
        ),
        tx.init(params),
        params,
        transform_non_params=lambda leaf: leaf.dtype == jnp.int32 or of_all,
        is_leaf=lambda node: isinstance(node, optax.MaskedNode),
    )
    assert all(jax.tree.leaves(found))


@every_optimizer
def test_vmaps_over_parameters(optimizer):
    """A batch of optimizees gives what they give one by one."""
    tx = fresh(optimizer)

    def one(params, gradient):
        return tx.update(gradient, tx.init(params))

    params = jax.tree.map(stack, *[draw(seed) for seed in (0, 1)])
    gradients = jax.tree.map(stack, *[draw(seed) for seed in (2, 3)])
    each = [one(draw(0), draw(2)), one(draw(1), draw(3))]
    assert_close(jax.jit(jax.vmap(one))(params, gradients), jax.tree.map(stack, *each))


@every_optimizer
def test_vmaps_over_meta_params(optimizer):
    """A batch of meta-parameters gives what they give one by one, and each its own updates."""

    def one(meta_params):
        tx = transformation(optimizer, meta_params)
        return tx.update(draw(1), tx.init(draw(0)))

    each = [fresh_meta_params(optimizer, seed) for seed in (1, 2)]
    first, second = map(one, each)
    batched = jax.jit(jax.vmap(one))(jax.tree.map(stack, *each))
    assert_close(batched, jax.tree.map(stack, first, second), atol=2**-24)  # of a state of order 1
    assert not np.allclose(first[0].matrix, second[0].matrix, rtol=1e-3, atol=0)


@every_optimizer
def test_permuting_coordinates_permutes_updates(optimizer):
    """Coordinates share one rule: where a coordinate stands in its parameter has no influence."""
    needs_coordinates(optimizer)
    tx = fresh(optimizer)

    def permute(tree):
        permutation = np.random.default_rng(6).permutation
        return jax.tree.map(lambda x: x.ravel()[permutation(x.size)].reshape(x.shape), tree)

    gradients = [draw(1), draw(2)]
    plain, _ = run(jitted_update(optimizer), tx.init(draw(0)), gradients)
    permuted, _ = run(jitted_update(optimizer), tx.init(draw(0)), map(permute, gradients))
    assert_close(permuted, [permute(update) for update in plain])
    assert not np.allclose(permuted[0].vector, plain[0].vector, rtol=1e-2, atol=0)


@every_optimizer
def test_a_nan_gradient_stays_in_its_coordinate(optimizer):
    """Coordinates are independent: the others' updates are the same to the last bit.

    Its own update is NaN, or 0 for an optimizer that is told to skip such coordinates.
    """
    needs_coordinates(optimizer)
    update, state = jitted_update(optimizer), fresh(optimizer).init(draw(0))
    sick = draw(1)._replace(vector=draw(1).vector.at[2].set(jnp.nan))
    healthy, _ = run(update, state, [draw(1), draw(2)])
    infected, _ = run(update, state, [sick, draw(2)])
    assert np.isnan(infected[0].vector[2]) or infected[0].vector[2] == 0
    for one, other in zip(infected, healthy, strict=True):
        other = other._replace(vector=other.vector.at[2].set(one.vector[2]))
        chex.assert_trees_all_equal(one, other)


@every_optimizer
def test_coordinate_groups_serve_each_leaf_once_and_alike(optimizer):
    """On its own leaves a group's transformation does what the whole optimizer does."""
    needs_coordinates(optimizer)
    groups, leaves = optimizer.coordinate_groups(draw(0)), jax.tree.leaves(draw(1))
    assert sorted(i for group in groups for i in group.leaves) == list(range(len(leaves)))
    whole, _ = jitted_update(optimizer)(draw(1), fresh(optimizer).init(draw(0)))
    for group in groups:
        tx = group.transform(fresh_meta_params(optimizer))
        mine = [leaves[i] for i in group.leaves]
        updates, _ = tx.update(mine, tx.init(mine))
        assert_close(updates, [jax.tree.leaves(whole)[i] for i in group.leaves])
