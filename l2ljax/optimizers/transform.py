"""Network + meta-parameters -> Optax transformation.

This is the paper's equation [g_t, h_{t+1}] = m(nabla_t, h_t, phi) applied to each coordinate of a
parameter tree (Andrychowicz et al. 2016, section 2): one set of weights, one state per coordinate.
"""

import functools
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import MetaParams, PyTree
from l2ljax.checks import (
    check_choice,
    check_like,
    check_number,
    check_real_floating,
    short,
)
from l2ljax.optimizers.block_size import (
    BlockSize,
    BlockSizes,
    checked_block_size,
    chosen_block_size,
)
from l2ljax.optimizers.blocks import Step
from l2ljax.optimizers.leafwise import step_leaves
from l2ljax.optimizers.networks import CoordinatewiseLSTM, LSTMCarry
from l2ljax.optimizers.sharding import repeated_over

BLOCK_SIZES = BlockSizes(cpu=65_536, accelerator=2**20)
"""Coordinates: some 80 MiB of temporaries for two layers of 20, and on a GPU half a GiB."""

NonFinite = Literal["propagate", "skip"]
"""What a coordinate does whose gradient is not finite, see `scale_by_lstm`."""


class ScaleByLSTMState(NamedTuple):
    """State of `scale_by_lstm`.

    Attributes:
        count: int32 scalar, updates made so far (it stops at the largest int32).
        carry: one `LSTMCarry` a layer; its `hidden` and `cell` are trees like the parameters with
            leaves `[hidden_size, *param.shape]` in the network's `state_dtype`, or in its dtype
            where none is given.

    Example:
        >>> network = CoordinatewiseLSTM(hidden_sizes=(3,))
        >>> tx = scale_by_lstm(init_meta_params(network, jax.random.key(0)), network)
        >>> state = tx.init(jnp.zeros((4, 2)))
        >>> int(state.count), state.carry[0].cell.shape
        (0, (3, 4, 2))
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    carry: tuple[LSTMCarry, ...]


def scale_by_lstm(
    meta_params: MetaParams,
    network: CoordinatewiseLSTM,
    *,
    block_size: BlockSize = "default",
    max_update: float | jax.Array | None = None,
    nonfinite: NonFinite = "propagate",
    hold_zeros: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Replaces gradients by the steps that a coordinatewise LSTM proposes, signed as Optax's are.

    As every `optax.scale_by_*`, it returns a direction to *descend*: minus what is to be added to
    the parameters, to be followed by `optax.scale_by_learning_rate`. A rate of 1.0 takes the steps
    that the network was trained to propose; schedules and AdamW's decay go where they always go:
    `chain(scale_by_lstm(...), add_decayed_weights(1e-2), scale_by_learning_rate(1.0))`. (What
    `l2ljax.lstm(...).transform(meta_params)` gives is complete already, with nothing to follow.)

    Updates keep each gradient's dtype; the network computes in `network.dtype`, in which its state
    is held too, unless `network.state_dtype` is given. A parameter's own axes are never reshaped,
    so a sharded parameter keeps its sharding and its state has the same, with the hidden axis in
    front and never split: that goes for `flax.linen.Partitioned` boxes and `flax.nnx.Param`'s
    metadata too, and `l2ljax.optimizers.state_shardings` makes the tree of shardings that
    `optax.tree.map_params`, which knows no axes in front, makes for Adam.

    Each parameter is a network of its own in the compiled program: where there are many small ones,
    not sharded, `optax.flatten` around the transform compiles faster.

    A gradient that is not finite concerns its own coordinate and no other. By default NaN makes
    that coordinate's update and state NaN (infinity is a large gradient to `log_sign`), and
    `optax.apply_if_finite` around the transform skips such steps for all coordinates;
    `nonfinite="skip"` skips them for that coordinate alone.

    Args:
        meta_params: what `network.init` (or `l2ljax.lstm(...).init`) returns.
        network: the one-coordinate network.
        block_size: coordinates of one parameter updated at once: larger parameters take their turn
            block by block, which bounds temporary memory (for two layers of 20 about 1.3 kB a
            coordinate of a block, 0.5 on a GPU). "default": 65,536 where JAX's default device is a
            CPU, 1,048,576 where it is none; `None`: all at once. See `l2ljax.optimizers.blocks` for
            how a sharded parameter stays so.
        max_update: largest size of an update, for each coordinate and step: a larger one is cut to
            it (up to its rounding to the gradient's dtype), a smaller one stays as it is to the
            last bit. A cut update has a derivative of 0 with respect to `meta_params`, so
            meta-train with a bound well above useful updates, or with none and add it afterwards.
            A positive number; `None`: no bound.
        nonfinite: "propagate", or "skip": a coordinate whose gradient is not finite in the
            network's dtype, or so large that the network's output is not, has an update of 0 and
            keeps its state. `count` counts such steps too.
        hold_zeros: let a coordinate whose gradient is exactly 0 stand still: an update of 0, and
            its state kept. Without it a learned optimizer, which has momentum and an offset of its
            own, moves such coordinates too (by more than 1 in 100 steps under the bundled
            "lstm-mnist"): embeddings that are not looked up, units that are never active.

    Returns:
        an Optax transformation; `params` and unknown extra arguments are ignored.

    Raises:
        ValueError: if `meta_params` does not fit `network`; it names the first leaf that differs.
            For a `max_update` that is no positive number, an unknown `nonfinite`, or a
            `hold_zeros` that is no bool.
        TypeError: from `init` and `update`, if a leaf is not of a real floating dtype.

    Example:
        >>> network = CoordinatewiseLSTM(hidden_sizes=(20, 20))
        >>> meta_params = init_meta_params(network, jax.random.key(0))
        >>> tx = optax.chain(
        ...     optax.clip_by_global_norm(1.0),
        ...     scale_by_lstm(meta_params, network),
        ...     optax.scale_by_learning_rate(1.0),
        ... )
        >>> params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
        >>> updates, state = tx.update(params, tx.init(params))
        >>> jax.tree.map(jnp.shape, updates)
        {'b': (2,), 'w': (3, 2)}
    """
    additive = add_lstm(
        meta_params,
        network,
        block_size=block_size,
        max_update=max_update,
        nonfinite=nonfinite,
        hold_zeros=hold_zeros,
    )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, Any]:
        updates, state = additive.update(updates, state, params, **extra_args)
        return jax.tree.map(jnp.negative, updates), state

    return optax.GradientTransformationExtraArgs(additive.init, update)


def add_lstm(
    meta_params: MetaParams,
    network: CoordinatewiseLSTM,
    *,
    block_size: BlockSize = "default",
    max_update: float | jax.Array | None = None,
    nonfinite: NonFinite = "propagate",
    hold_zeros: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """`scale_by_lstm` with the other sign: `params + updates`, complete as a learned optimizer's.

    Its arguments, state and errors are those of `scale_by_lstm`.
    """
    block_size = checked_block_size(block_size)
    check_update_options(max_update, nonfinite, hold_zeros)
    if not isinstance(network, CoordinatewiseLSTM):
        raise TypeError(f"network must be a CoordinatewiseLSTM, got {short(network)}.")
    # Shapes do not depend on the factors, which may be arrays (`optax.inject_hyperparams`).
    check_like(
        _meta_params_like(network.clone(output_scale=1.0, forget_bias=1.0)),  # pyright: ignore
        meta_params,
        "meta_params",
        f"they must come from init of a network with hidden_sizes={network.hidden_sizes}",
    )

    step: Any = functools.partial(network.apply, meta_params)
    if nonfinite == "skip":
        step = functools.partial(_skipping, step, network.dtype)
    if hold_zeros:
        step = functools.partial(_holding, step)
    if max_update is not None:
        step = functools.partial(_bounded, step, max_update)

    def init(params: PyTree) -> ScaleByLSTMState:
        check_real_floating(params, "parameter")
        return ScaleByLSTMState(
            count=jnp.zeros([], jnp.int32),
            # Trees like `params` inside the carry, not carries inside a tree like `params`: so
            # `optax.tree.map_params` and sharding rules see each as one more set of parameters.
            carry=jax.tree.map(lambda zero: repeated_over(zero, params), network.initial_carry()),
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
        size = chosen_block_size(block_size, BLOCK_SIZES)
        outputs, carry = step_leaves(step, state.carry, network.initial_carry(), updates, size)
        return outputs, ScaleByLSTMState(jnp.asarray(optax.safe_increment(state.count)), carry)

    return optax.GradientTransformationExtraArgs(init, update)


def _skipping(
    step: Step, dtype: Any, carry: PyTree, gradient: jax.Array
) -> tuple[PyTree, jax.Array]:
    """`step`, whose coordinates stand still where the gradient or the output is not finite."""
    fine = jnp.isfinite(gradient.astype(dtype))
    # The network sees 0 there: a derivative through the branch that is not used stays finite.
    stepped, output = step(carry, jnp.where(fine, gradient, 0))
    fine &= jnp.isfinite(output)
    kept = jax.tree.map(lambda new, old: jnp.where(fine, new, old), stepped, carry)
    return kept, jnp.where(fine, output, 0)


def _holding(step: Step, carry: PyTree, gradient: jax.Array) -> tuple[PyTree, jax.Array]:
    """`step`, whose coordinates stand still where the gradient is 0."""
    moves = gradient != 0
    stepped, output = step(carry, gradient)
    kept = jax.tree.map(lambda new, old: jnp.where(moves, new, old), stepped, carry)
    return kept, jnp.where(moves, output, 0)


def _bounded(
    step: Step, max_update: float | jax.Array, carry: PyTree, gradient: jax.Array
) -> tuple[PyTree, jax.Array]:
    """`step`, whose updates are cut to `max_update`."""
    carry, update = step(carry, gradient)
    return carry, jnp.clip(update, -max_update, max_update)


def check_update_options(max_update: Any, nonfinite: Any, hold_zeros: Any) -> None:
    """Refuses options of `scale_by_lstm` that are not of their kinds.

    Raises:
        ValueError: naming the argument, what was given and what was expected.
    """
    if max_update is not None:
        check_number("max_update", max_update, above=0)
    check_choice("nonfinite", nonfinite, get_args(NonFinite))
    if not isinstance(hold_zeros, bool):
        raise ValueError(f"hold_zeros must be True or False, got {short(hold_zeros)}.")


def init_meta_params(network: CoordinatewiseLSTM, key: jax.Array) -> MetaParams:
    """Fresh weights of `network` [phi], as flax variables: `{"params": {...}}`."""
    return jax.jit(network.init)(key, network.initial_carry(), jnp.zeros([], network.dtype))


@functools.cache
def _meta_params_like(network: Any) -> MetaParams:
    return jax.eval_shape(functools.partial(init_meta_params, network), jax.random.key(0))
