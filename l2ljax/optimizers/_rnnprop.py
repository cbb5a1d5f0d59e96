"""RNNProp: an LSTM that sees Adam's direction instead of the gradient.

Lv, Jiang & Li (2017), "Learning gradient descent: better generalization and longer horizons",
arXiv:1703.03633. Its inputs do not change when the loss is multiplied by a number, and its output
is bounded, so it carries over to other losses and to longer runs than it was trained on.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from l2ljax.base import CoordinateGroup, LearnedOptimizer, MetaParams, Params, PyTree
from l2ljax.checks import (
    check_like,
    check_number,
    check_real_floating,
    short,
)
from l2ljax.optimizers.block_size import BlockSize, checked_block_size, chosen_block_size
from l2ljax.optimizers.leafwise import step_leaves
from l2ljax.optimizers.networks import CoordinatewiseLSTM
from l2ljax.optimizers.preprocess import given
from l2ljax.optimizers.rnnprop_step import (
    BiasCorrection,
    ScaleByRNNPropState,
    corrections_at,
    init_state,
    step_coordinates,
)
from l2ljax.optimizers.scalars import in_float32
from l2ljax.optimizers.signs import negated
from l2ljax.optimizers.transform import BLOCK_SIZES
from l2ljax.specification import specified


@specified("rnnprop")
def rnnprop(
    hidden_sizes: Sequence[int] = (20, 20),
    output_scale: float = 0.1,
    b1: float = 0.95,
    b2: float = 0.95,
    bias_correction: BiasCorrection = True,
    eps: float = 1e-16,
    forget_bias: float = 1.0,
    dtype: jax.typing.DTypeLike = jnp.float32,
    state_dtype: jax.typing.DTypeLike | None = None,
    block_size: BlockSize = "default",
) -> LearnedOptimizer:
    """An LSTM of one coordinate's m / sqrt(v) and g / sqrt(v), with a bounded step.

    For each coordinate, with g its gradient at step t = 1, 2, ...:

        m = b1 m + (1 - b1) g              v = b2 v + (1 - b2) g^2
        x = (m' / sqrt(v' + eps), g / sqrt(v' + eps))
        theta <- theta - output_scale tanh(w . LSTM(x) + b)

    where m' = m / (1 - b1^t) and v' = v / (1 - b2^t). It is coordinatewise, moments and all, so the
    recorded backward pass serves it. An update takes some 2 (4 H (F + H)) multiplications a layer
    and coordinate, 10,100 for two layers of 20, and the state 8 bytes a parameter for the moments
    and 8 for each unit (with `state_dtype` bfloat16: 4), 328 for two layers of 20.

    Args:
        hidden_sizes: units of each layer. (The paper's network has a fully connected layer of 20
            before the first; the optimizers published since have none, nor has this one.)
        output_scale: the largest step of a coordinate [alpha].
        b1: decay of the momentum, 0 <= b1 < 1.
        b2: decay of the second moment, 0 <= b2 < 1.
        bias_correction: `True`: by powers of t as above. `False`: m' = m and v' = v. "constant": by
            (1 - b1) and (1 - b2) at every step, as the optimizers of Huang et al. (2022,
            "Optimizer Amalgamation", arXiv:2203.06474) were trained.
        eps: added inside the root.
        forget_bias: constant added to the forget gates.
        dtype: of the network's computation, whatever the gradients' dtype.
        state_dtype: of the network's state between steps; `None`: `dtype`.
        block_size: coordinates of one parameter updated at once, see `scale_by_lstm`.

    Returns:
        a coordinatewise `LearnedOptimizer`; its meta-parameters are flax variables as `lstm`'s.

    Raises:
        ValueError: for an argument that is not of these kinds, naming it.

    Example:
        >>> optimizer = rnnprop(hidden_sizes=(8,))
        >>> meta_params = optimizer.init(jax.random.key(0))
        >>> meta_params["params"]["kernel_0"].shape
        (32, 10)
        >>> tx = optimizer.transform(meta_params)
        >>> small, _ = tx.update(1e-4 * jnp.ones(2), tx.init(jnp.ones(2)))
        >>> large, _ = tx.update(1e4 * jnp.ones(2), tx.init(jnp.ones(2)))
        >>> bool(jnp.allclose(small, large, rtol=1e-3))
        True
    """
    block_size = checked_block_size(block_size)
    _check_options(output_scale, b1, b2, bias_correction, eps)
    network = _network(hidden_sizes, forget_bias, dtype, state_dtype)

    scale = functools.partial(
        scale_by_rnnprop,
        hidden_sizes=hidden_sizes,
        output_scale=output_scale,
        b1=b1,
        b2=b2,
        bias_correction=bias_correction,
        eps=eps,
        forget_bias=forget_bias,
        dtype=dtype,
        state_dtype=state_dtype,
        block_size=block_size,
    )

    def transform(meta_params: MetaParams) -> optax.GradientTransformationExtraArgs:
        return negated(scale(meta_params))

    def coordinate_groups(params: Params) -> tuple[CoordinateGroup, ...]:
        everything = tuple(range(len(jax.tree.leaves(params))))
        return (CoordinateGroup(everything, transform),)

    return LearnedOptimizer(
        init=functools.partial(_init, network),
        transform=transform,
        coordinate_groups=coordinate_groups,
    )


def scale_by_rnnprop(
    meta_params: MetaParams,
    hidden_sizes: Sequence[int] = (20, 20),
    output_scale: float | jax.Array = 0.1,
    b1: float = 0.95,
    b2: float = 0.95,
    bias_correction: BiasCorrection = True,
    eps: float = 1e-16,
    forget_bias: float = 1.0,
    dtype: jax.typing.DTypeLike = "float32",
    state_dtype: jax.typing.DTypeLike | None = None,
    block_size: BlockSize = "default",
) -> optax.GradientTransformationExtraArgs:
    """Replaces gradients by RNNProp's steps, signed as Optax's: to be followed by a learning rate.

    `optax.chain(scale_by_rnnprop(...), optax.scale_by_learning_rate(1.0))` takes the steps that the
    network was trained to take. Updates keep each gradient's dtype.

    Args:
        meta_params: what `rnnprop(...).init` returns.
        hidden_sizes: this and the other arguments are those of `rnnprop`.
        output_scale: may be a float scalar array (`optax.inject_hyperparams`).
        b1: as there.
        b2: as there.
        bias_correction: as there.
        eps: as there.
        forget_bias: as there.
        dtype: as there.
        state_dtype: as there.
        block_size: as there; "default" is its default.

    Returns:
        an Optax transformation; `params` and unknown extra arguments are ignored.

    Raises:
        ValueError: if `meta_params` does not fit, or for an argument of another kind.
        TypeError: from `init` and `update`, if a leaf is not of a real floating dtype.

    Example:
        >>> meta_params = rnnprop().init(jax.random.key(0))
        >>> tx = optax.chain(scale_by_rnnprop(meta_params), optax.scale_by_learning_rate(1.0))
        >>> updates, _ = tx.update(jnp.ones(3), tx.init(jnp.ones(3)))
        >>> updates.shape
        (3,)
    """
    block_size = checked_block_size(block_size)
    _check_options(output_scale, b1, b2, bias_correction, eps)
    network = _network(hidden_sizes, forget_bias, dtype, state_dtype)
    check_like(
        jax.eval_shape(functools.partial(_init, network), jax.random.key(0)),
        meta_params,
        "meta_params",
        f"they must come from init of rnnprop(hidden_sizes={network.hidden_sizes})",
    )

    init = functools.partial(init_state, network)
    constants = (in_float32(b1), in_float32(b2), in_float32(eps))
    step = functools.partial(
        step_coordinates,
        functools.partial(network.apply, meta_params),
        jnp.asarray(output_scale, dtype),
        constants,
    )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByRNNPropState]:
        del params, extra_args
        check_real_floating(updates, "gradient")
        check_like(
            jax.eval_shape(init, updates)[1:],
            tuple(state[1:]),
            "the state of scale_by_rnnprop",
            "give update() gradients like the parameters that init() was given",
        )
        count = jnp.asarray(optax.safe_increment(state.count))
        corrections = corrections_at(count, *constants[:2], bias_correction)
        one = (jnp.float32(0), jnp.float32(0), network.initial_carry())
        size = chosen_block_size(block_size, BLOCK_SIZES)
        outputs, inner = step_leaves(
            functools.partial(step, corrections), tuple(state[1:]), one, updates, size
        )
        return outputs, ScaleByRNNPropState(count, *inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _network(
    hidden_sizes: Sequence[int], forget_bias: Any, dtype: Any, state_dtype: Any
) -> CoordinatewiseLSTM:
    return CoordinatewiseLSTM(
        hidden_sizes=hidden_sizes,
        preprocess=given(2),
        output_scale=1.0,
        forget_bias=forget_bias,
        dtype=dtype,
        state_dtype=state_dtype,
    )


def _init(network: CoordinatewiseLSTM, key: jax.Array) -> MetaParams:
    return jax.jit(network.init)(key, network.initial_carry(), jnp.zeros(2, network.dtype))


def _check_options(output_scale: Any, b1: Any, b2: Any, bias_correction: Any, eps: Any) -> None:
    check_number("output_scale", output_scale)
    for name, decay in (("b1", b1), ("b2", b2)):
        check_number(name, decay, what="a number of at least 0 and below 1")
        # float(), as a comparison of arrays would be traced inside jit
        if not isinstance(decay, Tracer) and not 0 <= float(decay) < 1:
            raise ValueError(f"{name} must be a number of at least 0 and below 1, got {decay}.")
    if not isinstance(bias_correction, bool) and bias_correction != "constant":
        raise ValueError(
            f'bias_correction must be True, False or "constant", got {short(bias_correction)}.'
        )
    check_number("eps", eps, above=0)
