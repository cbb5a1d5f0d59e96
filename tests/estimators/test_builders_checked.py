"""Every learned optimizer that `l2ljax.optimizers` builds passes `check_learned_optimizer`."""

import jax
import jax.numpy as jnp
import optax
import pytest

import l2ljax
from l2ljax.optimizers import BUILDERS, log, lstm, rnnprop, small_fc

ARGUMENTS = {
    "celo": {"num_steps": 4},
    "celo_adam": {"num_steps": 4},
    "hyperparameters": {"make_tx": optax.adamw, "start": {"learning_rate": log(1e-3)}},
    "partition": {"optimizers": {"conv": rnnprop(), "fc": small_fc()}, "labels": "conv_fc"},
    "velo": {"num_steps": 4},
    "wrap": {
        "optimizer": lstm(),
        "around": lambda tx: optax.chain(optax.clip(1.0), tx),
        "coordinatewise": True,
    },
}
"""Those that builders need; the rest are their defaults."""


@pytest.mark.long
@pytest.mark.parametrize("name", BUILDERS)
def test_every_builder_passes_the_public_check(name):
    """With its defaults, on a convolution's kernel, a matrix and a vector."""
    params = {
        "conv": {"kernel": jnp.ones((1, 2, 1, 2))},
        "fc": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
    }
    optimizer = BUILDERS[name](**ARGUMENTS.get(name, {}))
    assert jax.tree.leaves(optimizer.init(jax.random.key(0)))
    l2ljax.check_learned_optimizer(optimizer, params)
