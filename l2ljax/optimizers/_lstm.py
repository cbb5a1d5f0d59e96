"""The coordinatewise LSTM optimizer of Andrychowicz et al. (2016), section 2.1."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import CoordinateGroup, LearnedOptimizer, MetaParams, Params, PyTree
from l2ljax.checks import check_positive_int
from l2ljax.optimizers.block_size import BlockSize, checked_block_size
from l2ljax.optimizers.networks import CoordinatewiseLSTM, Kernel
from l2ljax.optimizers.preprocess import Preprocess, log_sign
from l2ljax.optimizers.transform import (
    NonFinite,
    add_lstm,
    check_update_options,
    init_meta_params,
)
from l2ljax.specification import specified

PAPER_PREPROCESS = log_sign(p=10.0)


@specified("lstm")
def lstm(
    hidden_sizes: Sequence[int] = (20, 20),
    preprocess: Preprocess = PAPER_PREPROCESS,
    output_scale: float = 0.1,
    forget_bias: float = 1.0,
    dtype: jax.typing.DTypeLike = jnp.float32,
    state_dtype: jax.typing.DTypeLike | None = None,
    block_size: BlockSize = "default",
    max_update: float | None = None,
    nonfinite: NonFinite = "propagate",
    reset_every: int | None = None,
    hold_zeros: bool = False,
    kernel: Kernel = "plain",
) -> LearnedOptimizer:
    """The paper's optimizer: a small LSTM that sees one coordinate's gradient at a time.

    Args:
        hidden_sizes: units of each layer.
        preprocess: gradient -> features, `log_sign(p)` or `identity()`.
        output_scale: factor on the output. The paper uses 0.1 with preprocessing on MNIST.
        forget_bias: constant added to the forget gates.
        dtype: of computation, whatever the gradients' dtype.
        state_dtype: of the state between steps; `None`: `dtype`. "bfloat16" halves its memory.
        block_size: coordinates of one parameter updated at once, see `scale_by_lstm`.
        max_update: largest size of a coordinate's update; `None`: no bound. See `scale_by_lstm`.
        nonfinite: "propagate" or "skip", what a non-finite gradient does to its coordinate.
        reset_every: the state is zeroed before the first update and every `reset_every` updates
            after; 1: before each. Weights trained on unrolls of that length from a state of zeros
            may diverge beyond it, and not with this. `None`: never.
        hold_zeros: let coordinates whose gradient is exactly 0 stand still; by default they drift,
            see `scale_by_lstm`.
        kernel: "plain", or "pallas": one kernel a layer on NVIDIA GPUs and TPUs, refused when an
            update is compiled for another platform. It is not divided among devices: for parameters
            that are sharded use "plain". See `CoordinatewiseLSTM` and docs/gpu.md.

    Returns:
        a coordinatewise `LearnedOptimizer`; its meta-parameters are flax variables,
        `{"params": {"kernel_0": [4 H_0, F + H_0], "bias_0": [4 H_0], ..., "readout": [H_last],
        "readout_bias": []}}`.

    Raises:
        ValueError: for an argument that is not of these kinds, naming it.

    Example:
        >>> optimizer = lstm(hidden_sizes=(8,))
        >>> meta_params = optimizer.init(jax.random.key(0))
        >>> meta_params["params"]["kernel_0"].shape
        (32, 10)
    """
    block_size = checked_block_size(block_size)
    check_update_options(max_update, nonfinite, hold_zeros)
    if reset_every is not None:
        check_positive_int("reset_every", reset_every)
    network = CoordinatewiseLSTM(
        hidden_sizes=hidden_sizes,
        preprocess=preprocess,
        output_scale=output_scale,
        forget_bias=forget_bias,
        dtype=dtype,
        state_dtype=state_dtype,
        kernel=kernel,
    )
    transform = functools.partial(
        add_lstm,
        network=network,
        block_size=block_size,
        max_update=max_update,
        nonfinite=nonfinite,
        hold_zeros=hold_zeros,
    )

    if reset_every is not None:
        transform = functools.partial(_with_resets, transform, reset_every)

    def coordinate_groups(params: Params) -> tuple[CoordinateGroup, ...]:
        everything = tuple(range(len(jax.tree.leaves(params))))
        return (CoordinateGroup(everything, transform),)

    return LearnedOptimizer(
        init=functools.partial(init_meta_params, network),
        transform=transform,
        coordinate_groups=coordinate_groups,
    )


def _with_resets(
    transform: Callable[[MetaParams], optax.GradientTransformationExtraArgs],
    reset_every: int,
    meta_params: MetaParams,
) -> optax.GradientTransformationExtraArgs:
    """`transform(meta_params)`, whose network forgets all it has seen every `reset_every` steps."""
    inner = transform(meta_params)

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, Any]:
        is_new = state.count % reset_every == 0
        carry = jax.tree.map(lambda x: jnp.where(is_new, jnp.zeros_like(x), x), state.carry)
        return inner.update(updates, state._replace(carry=carry), params, **extra_args)

    return optax.GradientTransformationExtraArgs(inner.init, update)
