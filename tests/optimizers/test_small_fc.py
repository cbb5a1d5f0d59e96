"""`small_fc` beside what the official code computed, whole and in blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from zoo import largest_difference, needs_zoo, weights

from l2ljax.optimizers import scale_by_small_fc, small_fc

NAMES = {"adafac_mlp_lopt_h32": (32, 32), "adafac_mlp_lopt_h4": (4, 4)}


def official_weights(name):
    """The authors' arrays as our meta-parameters: kernels the other way round."""
    given = weights(name)
    params = {f"kernel_{i}": given[f"nn/~/w{i}"].T for i in range(3)}
    params |= {f"bias_{i}": given[f"nn/~/b{i}"] for i in range(3)}
    decays = {k: v for k, v in given.items() if k.endswith("_decays")}
    return jax.tree.map(jnp.asarray, {"params": params, **decays})


SLOW_RUNS = ("P1_T12", "P2_T12", "P3_T12")


@needs_zoo
@pytest.mark.parametrize(
    "run", ["P2_T1000", *(pytest.param(run, marks=pytest.mark.long) for run in SLOW_RUNS)]
)
@pytest.mark.parametrize("name", NAMES)
def test_takes_the_steps_of_the_official_code(name, run):
    """Steps are 1e-3 next to parameters of .5: float32 keeps four digits of their difference."""
    tx = small_fc(NAMES[name]).transform(official_weights(name))
    assert largest_difference(tx, name, run) < 1e-4


@needs_zoo
@pytest.mark.parametrize("block_size", [None, 7])
@pytest.mark.parametrize("name", NAMES)
def test_steps_of_order_one_agree_to_five_digits(name, block_size):
    """The official code with a step multiplier of 1: tensors of all ranks, whole and in blocks."""
    tx = small_fc(NAMES[name], step_scale=1.0, block_size=block_size)
    assert largest_difference(tx.transform(official_weights(name)), name, "P2_amp_T12") < 1e-5


SHAPES = [(8, 6), (7, 5), (40,), (5, 2, 2, 3), (3, 130), (2, 3, 64), (128,)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blocks_give_what_the_whole_gives(shape):
    """Interleaved (8 x 6), runs with something left over, and sums in one pass (long last axes)."""
    normal = np.random.default_rng(0).normal
    params, gradient = (jnp.asarray(normal(size=shape), jnp.float32) for _ in range(2))
    meta_params = small_fc((4,)).init(jax.random.key(0))
    updates = []
    for block_size in (None, 12):
        tx = scale_by_small_fc(meta_params, (4,), block_size=block_size)
        updates.append(
            jax.jit(lambda g, p, tx=tx: tx.update(g, tx.init(p), p)[0])(gradient, params)
        )
    np.testing.assert_allclose(*updates, rtol=1e-4, atol=1e-8)


def test_derivatives_in_blocks_are_those_of_the_whole():
    """By meta-parameters, the gradient and the parameters: of planes, of matrix products."""
    normal = np.random.default_rng(1).normal
    params, gradient, weight = (jnp.asarray(normal(size=(8, 6)), jnp.float32) for _ in range(3))
    meta_params = small_fc((4,)).init(jax.random.key(0))

    def product(block_size):
        def of(meta_params, gradient, params):
            tx = scale_by_small_fc(meta_params, (4,), step_scale=1.0, block_size=block_size)
            return jnp.vdot(weight, tx.update(gradient, tx.init(params), params)[0])

        return jax.jit(jax.grad(of, argnums=(0, 1, 2)))(meta_params, gradient, params)

    in_blocks, whole = product(12), product(None)
    assert np.abs(whole[0]["params"]["kernel_0"]).max() > 0.01
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-3, 1e-4), in_blocks, whole)


def test_needs_params_and_says_so():
    """In one sentence."""
    optimizer = small_fc((4, 4))
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    with pytest.raises(ValueError, match="scale_by_small_fc reads the parameters, got params=None"):
        tx.update(jnp.ones(3), tx.init(jnp.ones(3)))


def test_scale_by_is_followed_by_a_learning_rate():
    """Optax's sign: behind it, a learning rate of 1 gives what `transform` gives."""
    optimizer = small_fc((4, 4))
    meta_params, gradient = optimizer.init(jax.random.key(0)), jnp.eye(3)
    complete = optimizer.transform(meta_params)
    chained = optax.chain(scale_by_small_fc(meta_params, (4, 4)), optax.scale_by_learning_rate(1.0))
    updates = [tx.update(gradient, tx.init(gradient), gradient)[0] for tx in (complete, chained)]
    np.testing.assert_array_equal(*updates)
