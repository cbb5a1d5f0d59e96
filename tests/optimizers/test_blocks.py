"""`in_blocks` is the step itself, in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax.optimizers.blocks import in_blocks, interleaved_blocks
from l2ljax.optimizers.networks import CoordinatewiseLSTM
from l2ljax.optimizers.transform import init_meta_params, scale_by_lstm

SHAPES = [(24,), (23,), (6, 4), (4, 6), (7, 5), (1, 24), (2, 3, 4), (3, 1, 8), (13, 2)]


def step(carry, gradient):
    """Any coordinatewise step: state of two shapes, an update that depends on both."""
    sums = carry["sum"] + gradient
    pairs = carry["pair"] * 0.5 + jnp.stack([gradient, sums])
    return {"sum": sums, "pair": pairs}, sums * pairs[0] - pairs[1]


@pytest.mark.parametrize("block_size", [1, 3, 4, 23, None])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_the_step(shape, block_size):
    """State, updates and their derivatives, twice in a row, however the shape divides."""
    normal = np.random.default_rng(0).normal
    start = {"sum": jnp.asarray(normal(size=shape)), "pair": jnp.asarray(normal(size=(2, *shape)))}

    def both(step):
        def twice(gradient):
            carry, first = step(start, gradient)
            carry, second = step(carry, first)
            return jnp.sum(second**2), carry

        return jax.jit(jax.value_and_grad(twice, has_aux=True))(jnp.asarray(normal(size=shape)))

    normal = np.random.default_rng(1).normal
    expected = both(step)
    normal = np.random.default_rng(1).normal
    found = both(lambda carry, gradient: in_blocks(step, carry, gradient, block_size))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(24,), (6, 4)], ids=str)
def test_a_step_sees_gradients_as_they_are_though_its_updates_are_narrow(shape):
    """Of 1e-9 and 1e6, which float16 does not hold, the sums are those of float32 in blocks too."""
    gradient = jnp.reshape(jnp.array([1e-9, 1e6] * 12), shape)

    def narrow(carry, gradient):
        return carry + gradient, jnp.sign(gradient).astype(jnp.float16)

    carry, update = in_blocks(narrow, jnp.zeros(shape), gradient, 8)
    np.testing.assert_array_equal(carry, gradient)
    assert update.dtype == jnp.float16
    assert (update == 1).all()


def test_which_blocks():
    """The least divisor that is fine enough; runs for vectors and for axes without one."""
    assert interleaved_blocks((4096, 4096), 65_536) == 256
    assert interleaved_blocks((6, 4), 9) == 3
    assert interleaved_blocks((50_000_000,), 65_536) is None
    assert interleaved_blocks((10_007, 64), 65_536) is None  # a prime: blocks of 64 or of all
    assert interleaved_blocks((2, 10_000_000), 65_536) is None  # no axis to cut but the last


@pytest.mark.parametrize("shape", [(1_000_000,), (1000, 1000), (999_983,)], ids=str)
def test_temporaries_are_bounded_by_the_block(shape):
    """Some 320 floats a coordinate of a block: its state before and after, gates and inputs."""
    network = CoordinatewiseLSTM()
    meta_params = init_meta_params(network, jax.random.key(0))

    def temporaries(block_size):
        tx = scale_by_lstm(meta_params, network, block_size=block_size)
        gradient = jax.ShapeDtypeStruct(shape, jnp.float32)
        state = jax.eval_shape(tx.init, gradient)
        program = jax.jit(tx.update, donate_argnums=(0, 1)).lower(gradient, state).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert temporaries(10_000) <= 4 * 330 * 10_000
    assert temporaries(None) >= 300 * 1_000_000


def test_a_block_size_that_is_no_size_is_refused():
    """With what was given."""
    network = CoordinatewiseLSTM()
    with pytest.raises(ValueError, match="block_size must be an integer of at least 1, got 0"):
        scale_by_lstm(init_meta_params(network, jax.random.key(0)), network, block_size=0)
