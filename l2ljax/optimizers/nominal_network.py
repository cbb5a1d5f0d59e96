"""The small network of `nominal`: from statistics of tensors to sizes, drifts and mixtures."""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from l2ljax.base import Key, MetaParams
from l2ljax.optimizers.nominal_directions import DECAYS, MAIN


def num_outputs(num_others: int, averaged: bool = False) -> int:
    """A size, a drift, and a logit for each momentum, the gradient and `num_others` directions.

    Two more where steps are averaged: how much of them is put off, and for how long.
    """
    return 3 + len(DECAYS) + num_others + 2 * averaged


def network(meta_params: MetaParams, x: jax.Array) -> jax.Array:
    """`[tensors, features]` -> `[tensors, num_outputs]`."""
    for layer in meta_params["layers"][:-1]:
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
    last = meta_params["layers"][-1]
    return x @ last["kernel"] + last["bias"]


def outputs(
    said: jax.Array, num_others: int, averaged: bool
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    """What the network said: sizes, drifts `[tensors]`, mixtures of momenta and of directions.

    The last, `[tensors, 2 or 0]`, is for `part_now`.
    """
    directions = 3 + len(DECAYS)
    mixture = jax.nn.softmax(said[:, 2:directions])
    # Adam's direction has the logit 0
    logits = jnp.pad(said[:, directions : directions + num_others], ((0, 0), (1, 0)))
    delay = said[:, said.shape[1] - 2 * averaged :]
    return said[:, 0], said[:, 1], mixture, jax.nn.softmax(logits), delay


def part_now(
    step: jax.Array, pending: jax.Array, t: jax.Array, delay: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A step taken in parts: some at once, and the rest over a share of the time spent so far.

    With constant shares this is schedule-free averaging (Defazio et al. 2024, arXiv:2405.15682):
    the parameters are (1 - b) z + b x, where z takes whole steps and x is the running average of
    z with weight c for its newest value, c falling as k / (k + t); `pending` is z - x.

    Args:
        step, pending: `[*shape]` float32.
        t: updates made, this one included; float32.
        delay: `[2]`, logit of b and logarithm of k.

    Returns:
        what is taken now, and what is pending after it.
    """
    b, c = jax.nn.sigmoid(delay[0]), jax.nn.sigmoid(delay[1] - jnp.log(t))
    whole = pending + step
    left = (1 - c) * whole
    return step - b * (left - pending), left


def init_layers(sizes: Sequence[int], averaged: bool, key: Key) -> list[dict[str, jax.Array]]:
    """Fan-in scaled kernels; the last layer starts so small that the rule starts close to Adam."""
    keys = jax.random.split(key, len(sizes) - 1)
    layers = [
        {
            "kernel": jax.random.normal(k, (m, n), jnp.float32) / math.sqrt(m),
            "bias": jnp.zeros(n, jnp.float32),
        }
        for k, (m, n) in zip(keys, itertools.pairwise(sizes), strict=True)
    ]
    layers[-1]["kernel"] *= 0.01
    # softmax([0, 4, 0, 0]) has 0.95 on the momentum of decay 0.9; other directions begin at a tenth
    bias = layers[-1]["bias"].at[2 + MAIN].set(4.0)
    # and the share of a step that is put off likewise, for as long as has been spent
    layers[-1]["bias"] = bias.at[3 + len(DECAYS) : sizes[-1] - averaged].set(-2.0)
    return layers
