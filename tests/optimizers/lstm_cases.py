"""Small networks, and draws for them, that the tests of `scale_by_lstm` share."""

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.optimizers.networks import CoordinatewiseLSTM
from l2ljax.optimizers.preprocess import identity
from l2ljax.optimizers.transform import add_lstm, init_meta_params

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
