"""The small network of `nominal`: from statistics of tensors to sizes, drifts and mixtures."""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from l2ljax.base import Key, MetaParams
from l2ljax.optimizers.nominal_directions import DECAYS, MAIN


def num_outputs(num_others: int) -> int:
    """A size, a drift, and a logit for each momentum, the gradient and `num_others` directions."""
    return 3 + len(DECAYS) + num_others


def network(meta_params: MetaParams, x: jax.Array) -> jax.Array:
    """`[tensors, features]` -> `[tensors, 2 + mixture]`: size, drift and the mixture's logits."""
    for layer in meta_params["layers"][:-1]:
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
    last = meta_params["layers"][-1]
    return x @ last["kernel"] + last["bias"]


def init_layers(sizes: Sequence[int], key: Key) -> list[dict[str, jax.Array]]:
    """Fan-in scaled kernels; the last layer starts so small that the rule starts close to Adam."""
    keys = jax.random.split(key, len(sizes) - 1)
    layers = [
        {"kernel": jax.random.normal(k, (m, n)) / math.sqrt(m), "bias": jnp.zeros(n)}
        for k, (m, n) in zip(keys, itertools.pairwise(sizes), strict=True)
    ]
    layers[-1]["kernel"] *= 0.01
    # softmax([0, 4, 0, 0]) has 0.95 on the momentum of decay 0.9; other directions begin at a tenth
    bias = layers[-1]["bias"].at[2 + MAIN].set(4.0)
    layers[-1]["bias"] = bias.at[3 + len(DECAYS) :].set(-2.0)
    return layers
