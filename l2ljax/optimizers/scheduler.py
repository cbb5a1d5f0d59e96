"""The part of VeLO and Celo that looks at training as a whole: time, losses, an LSTM a tensor.

Metz et al. (2022), "VeLO", arXiv:2211.09760, section 3; Moudgil et al. (2025), "Celo". Pure
functions; arrays are named and shaped as in the published weights.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from l2ljax.base import Key
from l2ljax.optimizers.lengths import checked_length
from l2ljax.optimizers.networks import LSTMCarry

Arrays = dict[str, Any]

NUM_LOSSES = 10
TIME_CENTRES = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)
NUM_FEATURES = len(TIME_CENTRES) + NUM_LOSSES - 1


class LossBuffer(NamedTuple):
    """Averages of the loss on ten time scales: `means` and `minima` `[10]` float32.

    `minima` are the least bias-corrected averages so far.
    """

    means: jax.Array
    minima: jax.Array


def fresh_losses() -> LossBuffer:
    """Before the first loss."""
    return LossBuffer(
        jnp.zeros(NUM_LOSSES, jnp.float32), jnp.full(NUM_LOSSES, 999999999999.0, jnp.float32)
    )


def update_losses(
    losses: LossBuffer, value: jax.Array, count: jax.Array, num_steps: int
) -> LossBuffer:
    """Moves the averages towards `value`, cut to twice the largest average's size.

    Time constants are ten from 10 to `num_steps` on a logarithmic scale.

    Args:
        losses: the averages so far.
        value: float32 scalar, the loss of this step.
        count: int32 scalar, steps before this one.
        num_steps: length of training.
    """
    decays = _decays(num_steps)
    seen = jnp.asarray(optax.safe_increment(count))
    correction = 1 - decays ** seen.astype(jnp.float32)
    largest = jnp.where(count == 0, value, jnp.max(losses.means / correction))
    value = jnp.minimum(jnp.abs(largest) * 2, value)
    means = losses.means * decays + value * (1 - decays)
    return LossBuffer(means, jnp.minimum(losses.minima, means / correction))


def loss_features(losses: LossBuffer, count: jax.Array, num_steps: int) -> jax.Array:
    """How each average stands to the next slower one, from -1 to 1; 0 for the first two steps.

    Args:
        losses: after `update_losses`.
        count: int32 scalar, losses so far, this step's included.
        num_steps: length of training.

    Returns:
        `[9]` float32.
    """
    corrected = losses.means / (1 - _decays(num_steps) ** count.astype(jnp.float32))
    faster, slower = corrected[:-1] - losses.minima[:-1], corrected[1:] - losses.minima[:-1]
    features = jnp.clip(faster / jnp.maximum(1e-8, slower) - 1, -1, 1)
    return jnp.where(count <= 2, 0.0, features)


def fraction_features(count: jax.Array, num_steps: int) -> jax.Array:
    """tanh(10 (t / num_steps - c)) for nine centres c: `[9]` float32, t steps before this one."""
    done = count.astype(jnp.float32) / num_steps
    return jnp.tanh(10 * (done - np.asarray(TIME_CENTRES, np.float32)))


def run_scheduler(
    weights: Arrays, carry: LSTMCarry, features: jax.Array
) -> tuple[jax.Array, LSTMCarry]:
    """One step of the LSTM of each tensor, which also sees the largest features of all tensors.

    v = max over tensors of relu(linear_1 x); x' = linear_2 x + v; then an LSTM with gates i, g, f,
    o and 1 added to f. The published weights' first layer, `linear`, is dead: it is not read.

    Args:
        weights: "linear_1", "linear_2": {"w": [features, hidden], "b": [hidden]}; "lstm": {"w":
            [2 hidden, 4 hidden], "b": [4 hidden]}.
        carry: `hidden` and `cell` `[num_tensors, hidden]`.
        features: `[num_tensors, features]` float32.

    Returns:
        the LSTM's output `[num_tensors, hidden]`, and its next carry.
    """
    mixed = jax.nn.relu(linear(weights["linear_1"], features)).max(axis=0, keepdims=True)
    inputs = linear(weights["linear_2"], features) + mixed
    gates = linear(weights["lstm"], jnp.concatenate([inputs, carry.hidden], axis=1))
    i, g, f, o = jnp.split(gates, 4, axis=1)
    cell = jax.nn.sigmoid(f + 1) * carry.cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
    return hidden, LSTMCarry(hidden, cell)


def init_scheduler(key: Key, num_features: int, hidden_size: int) -> Arrays:
    """Fresh weights for `run_scheduler`, and the learned start "hidden", "cell" `[hidden]`."""
    keys = jax.random.split(key, 5)
    return {
        "linear_1": init_linear(keys[0], num_features, hidden_size),
        "linear_2": init_linear(keys[1], num_features, hidden_size),
        "lstm": init_linear(keys[2], 2 * hidden_size, 4 * hidden_size),
        "hidden": 0.1 * jax.random.normal(keys[3], (hidden_size,), jnp.float32),
        "cell": 0.1 * jax.random.normal(keys[4], (hidden_size,), jnp.float32),
    }


def first_carry(weights: Arrays, num_tensors: int) -> LSTMCarry:
    """The learned start of every tensor's LSTM: `[num_tensors, hidden]` float32."""
    shape = (num_tensors, weights["hidden"].shape[0])
    return LSTMCarry(
        *[jnp.array(jnp.broadcast_to(weights[name], shape)) for name in ("hidden", "cell")]
    )


def linear(layer: Arrays, x: jax.Array) -> jax.Array:
    """x w + b, for x `[..., inputs]`."""
    return x @ layer["w"] + layer["b"]


def init_linear(key: Key, num_inputs: int, num_outputs: int) -> Arrays:
    """Weights normal, cut at two standard deviations of 1 / sqrt(inputs), as Haiku's; biases 0."""
    w = jax.random.truncated_normal(key, -2, 2, (num_inputs, num_outputs), jnp.float32)
    return {"w": w / num_inputs**0.5, "b": jnp.zeros(num_outputs, jnp.float32)}


def checked_num_steps(num_steps: Any) -> int:
    """`num_steps`, of which time constants are made in float64, so before a step is compiled.

    Raises:
        ValueError: unless it is an integer of at least 2.
    """
    return checked_length("num_steps", num_steps, minimum=2)


def _decays(num_steps: int) -> np.ndarray:
    # Rounded once to float32, in which the rest is computed as the published code does: at a
    # thousand steps 1 - decay^n cancels, so one more bit in a decay is 1e-3 in the first features.
    decays = np.exp(-1 / np.logspace(1, np.log10(num_steps), NUM_LOSSES)).astype(np.float32)
    # From 2^25 steps on the slowest would be rounded to 1, and its average be 0 / 0.
    return np.minimum(decays, np.nextafter(np.float32(1), np.float32(0)))
