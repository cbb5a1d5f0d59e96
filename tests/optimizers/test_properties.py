"""What holds for any tree of parameters: `scale_by_lstm` and `partition` by property (hypothesis).

Shapes and dtypes come from short lists, so that the few operations of a network of two units are
compiled once each.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from l2ljax.optimizers import lstm, partition
from l2ljax.optimizers.preprocess import identity, log_sign

SHAPES = [(), (3,), (2, 3), (0, 2)]
DTYPES = ["float32", "bfloat16"]
quick = settings(max_examples=15, deadline=None, database=None, derandomize=True)


def by_rank(params):
    """Labels for any tree."""
    return jax.tree.map(lambda leaf: "matrix" if jnp.ndim(leaf) > 1 else "vector", params)


MEMBERS = {"matrix": lstm((2,), identity()), "vector": lstm((2,), log_sign(5.0))}
OPTIMIZERS = {
    "lstm": lstm((2,)),
    "lstm, identity": lstm((2,), identity(), output_scale=1.0),
    "partition": partition(MEMBERS, by_rank),
}
META_PARAMS = {
    name: jax.jit(optimizer.init)(jax.random.key(3)) for name, optimizer in OPTIMIZERS.items()
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


@st.composite
def leaves(draw):
    """Any finite float32, 0 and denormals included, in one of the dtypes."""
    numbers = st.floats(-(2.0**127), 2.0**127, width=32)
    array = draw(arrays(np.float32, draw(st.sampled_from(SHAPES)), elements=numbers))
    return jnp.asarray(array, draw(st.sampled_from(DTYPES)))


def trees(leaf):
    """Nested dicts, lists and tuples of what `leaf` draws; empty ones too."""
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
            st.tuples(inner, inner),
        ),
        max_leaves=5,
    )


def transform(name):
    return OPTIMIZERS[name].transform(META_PARAMS[name])


def step(name, gradients):
    """The second of two updates with the same gradients: it depends on the state as well."""
    tx = transform(name)
    _, state = tx.update(gradients, tx.init(gradients))
    return tx.update(gradients, state)


def assert_same(a, b):
    """To the last bit."""
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    np.testing.assert_array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32))


@every_optimizer
@quick
@given(gradients=trees(leaves()))
def test_updates_are_like_gradients_and_finite(name, gradients):
    """Structure, shape and dtype; and all is finite where the gradients are."""
    updates, state = step(name, gradients)
    assert jax.tree.structure(updates) == jax.tree.structure(gradients)
    for update, gradient in zip(jax.tree.leaves(updates), jax.tree.leaves(gradients), strict=True):
        assert (update.shape, update.dtype) == (gradient.shape, gradient.dtype)
    for leaf in jax.tree.leaves((updates, state)):
        assert np.isfinite(np.asarray(leaf, np.float32)).all()


@every_optimizer
@quick
@given(tree=trees(leaves()))
def test_each_leaf_is_updated_as_if_alone(name, tree):
    """Whatever the tree around it."""
    updates, _ = step(name, tree)
    for update, gradient in zip(jax.tree.leaves(updates), jax.tree.leaves(tree), strict=True):
        assert_same(update, step(name, gradient)[0])


@every_optimizer
@quick
@given(order=st.permutations(range(4)), values=st.tuples(*[leaves()] * 4))
def test_the_order_of_leaves_does_not_matter(name, order, values):
    """Permuted gradients have permuted updates."""
    updates, _ = step(name, list(values))
    permuted, _ = step(name, [values[i] for i in order])
    for i, update in zip(order, permuted, strict=True):
        assert_same(update, updates[i])


@every_optimizer
@quick
@given(
    tree=trees(leaves()),
    dtype=st.sampled_from(["int32", "uint8", "bool", "complex64"]),
)
def test_other_dtypes_are_refused_with_the_wrapper_that_helps(name, tree, dtype):
    """From `init` and from `update`, naming the leaf."""
    tx = transform(name)
    bad = {"fine": tree, "odd": jnp.zeros(3, dtype)}
    helps = "split_real_and_imaginary" if dtype == "complex64" else "None in its place"
    with pytest.raises(TypeError, match=rf"parameter odd has dtype {dtype}; .*{helps}"):
        tx.init(bad)
    fine = {"fine": tree, "odd": jnp.zeros(3)}
    with pytest.raises(TypeError, match=rf"gradient odd has dtype {dtype}; .*{helps}"):
        tx.update(bad, tx.init(fine))
