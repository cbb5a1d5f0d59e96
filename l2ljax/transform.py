"""Network + meta-parameters -> Optax transformation.

This is the paper's equation [g_t, h_{t+1}] = m(nabla_t, h_t, phi) applied to each coordinate of a
parameter tree (Andrychowicz et al. 2016, section 2): one set of weights, one state per coordinate.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import MetaParams, PyTree
from l2ljax.blocks import in_blocks
from l2ljax.checks import check_like, check_positive_int, check_real_floating
from l2ljax.networks import CoordinatewiseLSTM, LSTMCarry

DEFAULT_BLOCK_SIZE = 65_536
"""Coordinates: some 80 MiB of temporaries for two layers of 20."""


class ScaleByLSTMState(NamedTuple):
    """State of `scale_by_lstm`.

    Attributes:
        count: int32 scalar, updates made so far (it stops at the largest int32).
        carry: one `LSTMCarry` a layer; its `hidden` and `cell` are trees like the parameters with
            leaves `[hidden_size, *param.shape]` in the network's dtype.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    carry: tuple[LSTMCarry, ...]


def scale_by_lstm(
    meta_params: MetaParams,
    network: CoordinatewiseLSTM,
    *,
    block_size: int | None = DEFAULT_BLOCK_SIZE,
) -> optax.GradientTransformationExtraArgs:
    """Replaces gradients by the updates that a coordinatewise LSTM proposes.

    The updates are additive: `optax.apply_updates(params, updates)`, with no sign flip and no
    learning rate behind it. Updates keep each gradient's dtype; the network computes, and its state
    is held, in `network.dtype`. A parameter's own axes are never reshaped, so a sharded parameter
    keeps its sharding and its state has the same. A NaN gradient makes its own coordinate NaN and
    no other; `optax.apply_if_finite` around the transform skips such steps.

    Args:
        meta_params: what `network.init` (or `l2ljax.lstm(...).init`) returns.
        network: the one-coordinate network.
        block_size: coordinates of one parameter updated at once: larger parameters take their turn
            block by block, which bounds temporary memory (about 1.3 kB a coordinate of a block,
            for two layers of 20). `None`: all at once. See `l2ljax.blocks` for how a sharded
            parameter stays so.

    Returns:
        an Optax transformation; `params` and unknown extra arguments are ignored.

    Raises:
        ValueError: if `meta_params` does not fit `network`; it names the first leaf that differs.
        TypeError: from `init` and `update`, if a leaf is not of a real floating dtype.

    Example:
        >>> network = CoordinatewiseLSTM(hidden_sizes=(20, 20))
        >>> meta_params = init_meta_params(network, jax.random.key(0))
        >>> tx = optax.chain(
        ...     optax.clip_by_global_norm(1.0), scale_by_lstm(meta_params, network)
        ... )
        >>> params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
        >>> updates, state = tx.update(params, tx.init(params))
        >>> jax.tree.map(jnp.shape, updates)
        {'b': (2,), 'w': (3, 2)}
    """
    if block_size is not None:
        check_positive_int("block_size", block_size)
    # Shapes do not depend on the factors, which may be arrays (`optax.inject_hyperparams`).
    check_like(
        _meta_params_like(network.clone(output_scale=1.0, forget_bias=1.0)),  # pyright: ignore
        meta_params,
        "meta_params",
        f"they must come from init of a network with hidden_sizes={network.hidden_sizes}",
    )

    def init(params: PyTree) -> ScaleByLSTMState:
        check_real_floating(params, "parameter")
        return ScaleByLSTMState(
            count=jnp.zeros([], jnp.int32),
            # Trees like `params` inside the carry, not carries inside a tree like `params`: so
            # `optax.tree.map_params` and sharding rules see each as one more set of parameters.
            carry=jax.tree.map(
                lambda zero: jax.tree.map(functools.partial(_repeat_over, zero), params),
                network.initial_carry(),
            ),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByLSTMState]:
        del params, extra_args
        check_real_floating(updates, "gradient")
        check_like(
            jax.eval_shape(init, updates).carry,
            state.carry,
            "the state of scale_by_lstm",
            "give update() gradients like the parameters that init() was given",
        )
        gradients, treedef = jax.tree.flatten(updates)
        carry_def = jax.tree.structure(network.initial_carry())
        carry_trees = carry_def.flatten_up_to(state.carry)
        # carries[i]: the network's carry for gradients[i]
        carries = [
            carry_def.unflatten(leaves)
            for leaves in zip(*map(treedef.flatten_up_to, carry_trees), strict=True)
        ] or [network.initial_carry()] * len(gradients)

        step: Any = functools.partial(network.apply, meta_params)
        stepped: list[Any] = [
            in_blocks(step, carry, jnp.asarray(gradient), block_size)
            for carry, gradient in zip(carries, gradients, strict=True)
        ]
        outputs = [
            output.astype(jnp.result_type(gradient))  # a Python float has no dtype
            for (_, output), gradient in zip(stepped, gradients, strict=True)
        ]
        next_leaves = [jax.tree.leaves(carry) for carry, _ in stepped]
        next_trees = [treedef.unflatten(column) for column in zip(*next_leaves, strict=True)]
        next_carry = carry_def.unflatten(next_trees) if gradients else state.carry
        return treedef.unflatten(outputs), ScaleByLSTMState(
            count=jnp.asarray(optax.safe_increment(state.count)), carry=next_carry
        )

    return optax.GradientTransformationExtraArgs(init, update)


def init_meta_params(network: CoordinatewiseLSTM, key: jax.Array) -> MetaParams:
    """Fresh weights of `network` [phi], as flax variables: `{"params": {...}}`."""
    return jax.jit(network.init)(key, network.initial_carry(), jnp.zeros([], network.dtype))


@functools.cache
def _meta_params_like(network: Any) -> MetaParams:
    return jax.eval_shape(functools.partial(init_meta_params, network), jax.random.key(0))


def _repeat_over(zero: jax.Array, param: jax.Array) -> jax.Array:
    """`[hidden]` -> `[hidden, *param.shape]`, sharded like `param` where it is sharded."""
    like_param = jnp.zeros_like(param, dtype=zero.dtype)
    return jnp.broadcast_to(like_param, (*zero.shape, *like_param.shape))
