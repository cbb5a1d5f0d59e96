"""A baseline, not a product: the same LSTM with the hidden axis last, one parameter at a time.

State is `[*param.shape, hidden]` and each layer a product `[N, F + H] @ [F + H, 4 H]`, as most
implementations have it.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import LearnedOptimizer
from l2ljax.optimizers.networks import CoordinatewiseLSTM
from l2ljax.optimizers.transform import init_meta_params


def lstm_hidden_last() -> LearnedOptimizer:
    """The network, weights and initial values of `l2ljax.lstm()`, in the other layout."""
    network = CoordinatewiseLSTM()

    def transform(meta_params):
        weights = meta_params["params"]

        def init(params):
            return [
                tuple(
                    jnp.zeros((*p.shape, size)) for size in network.hidden_sizes for _ in range(2)
                )
                for p in jax.tree.leaves(params)
            ]

        def update(updates, state, params=None, **extra):
            del params, extra
            leaves, treedef = jax.tree.flatten(updates)
            stepped = [_step(weights, carry, g) for carry, g in zip(state, leaves, strict=True)]
            return treedef.unflatten([u for u, _ in stepped]), [c for _, c in stepped]

        return optax.GradientTransformationExtraArgs(init, update)

    def _step(weights, carry, gradient):
        inputs = jnp.moveaxis(network.preprocess(gradient), 0, -1)
        next_carry = []
        for layer in range(len(network.hidden_sizes)):
            hidden, cell = carry[2 * layer : 2 * layer + 2]
            inputs = jnp.concatenate([inputs, hidden], axis=-1)
            gates = inputs @ weights[f"kernel_{layer}"].T + weights[f"bias_{layer}"]
            i, f, candidate, o = jnp.split(gates, 4, axis=-1)
            forget = jax.nn.sigmoid(f + network.forget_bias)
            cell = forget * cell + jax.nn.sigmoid(i) * jnp.tanh(candidate)
            inputs = jax.nn.sigmoid(o) * jnp.tanh(cell)
            next_carry += [inputs, cell]
        update = inputs @ weights["readout"] + weights["readout_bias"]
        return network.output_scale * update, tuple(next_carry)

    return LearnedOptimizer(functools.partial(init_meta_params, network), transform)
