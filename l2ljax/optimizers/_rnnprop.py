"""RNNProp: an LSTM that sees Adam's direction instead of the gradient.

Lv, Jiang & Li (2017), "Learning gradient descent: better generalization and longer horizons",
arXiv:1703.03633. Its inputs do not change when the loss is multiplied by a number, and its output
is bounded, so it carries over to other losses and to longer runs than it was trained on.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import CoordinateGroup, LearnedOptimizer, MetaParams, Params, PyTree
from l2ljax.checks import (
    check_like,
    check_number,
    check_positive_int,
    check_real_floating,
    short,
)
from l2ljax.optimizers.blocks import in_blocks
from l2ljax.optimizers.networks import CoordinatewiseLSTM, LSTMCarry
from l2ljax.optimizers.preprocess import given
from l2ljax.optimizers.signs import negated
from l2ljax.optimizers.transform import DEFAULT_BLOCK_SIZE
from l2ljax.specification import specified

BiasCorrection = bool | Literal["constant"]
"""What the moments are divided by, see `rnnprop`."""


class ScaleByRNNPropState(NamedTuple):
    """State of `scale_by_rnnprop`.

    Attributes:
        count: int32 scalar, updates made so far (it stops at the largest int32).
        momentum: tree like the parameters, float32: the moving average of g.
        second_moment: likewise, of g^2.
        carry: one `LSTMCarry` a layer, leaves `[hidden_size, *param.shape]` in the network's dtype.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    momentum: PyTree
    second_moment: PyTree
    carry: tuple[LSTMCarry, ...]


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
    block_size: int | None = DEFAULT_BLOCK_SIZE,
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
    options: dict[str, Any] = {
        "hidden_sizes": hidden_sizes,
        "output_scale": output_scale,
        "b1": b1,
        "b2": b2,
        "bias_correction": bias_correction,
        "eps": eps,
        "forget_bias": forget_bias,
        "dtype": dtype,
        "state_dtype": state_dtype,
        "block_size": block_size,
    }
    _check_options(output_scale, b1, b2, bias_correction, eps, block_size)
    network = _network(hidden_sizes, forget_bias, dtype, state_dtype)

    def transform(meta_params: MetaParams) -> optax.GradientTransformationExtraArgs:
        return negated(scale_by_rnnprop(meta_params, **options))

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
    dtype: jax.typing.DTypeLike = jnp.float32,
    state_dtype: jax.typing.DTypeLike | None = None,
    block_size: int | None = DEFAULT_BLOCK_SIZE,
) -> optax.GradientTransformationExtraArgs:
    """Replaces gradients by RNNProp's steps, signed as Optax's: to be followed by a learning rate.

    `optax.chain(scale_by_rnnprop(...), optax.scale_by_learning_rate(1.0))` takes the steps that the
    network was trained to take. Updates keep each gradient's dtype.

    Args:
        meta_params: what `rnnprop(...).init` returns.
        hidden_sizes: this and the other arguments are those of `rnnprop`.
        output_scale: may be an array (`optax.inject_hyperparams`).
        b1: as there.
        b2: as there.
        bias_correction: as there.
        eps: as there.
        forget_bias: as there.
        dtype: as there.
        state_dtype: as there.
        block_size: as there.

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
    _check_options(output_scale, b1, b2, bias_correction, eps, block_size)
    network = _network(hidden_sizes, forget_bias, dtype, state_dtype)
    check_like(
        jax.eval_shape(functools.partial(_init, network), jax.random.key(0)),
        meta_params,
        "meta_params",
        f"they must come from init of rnnprop(hidden_sizes={network.hidden_sizes})",
    )

    def init(params: PyTree) -> ScaleByRNNPropState:
        check_real_floating(params, "parameter")

        def zeros(param: jax.Array) -> jax.Array:
            return jnp.zeros_like(param, dtype=jnp.float32)

        def repeated(zero: jax.Array, param: jax.Array) -> jax.Array:
            like = jnp.zeros_like(param, dtype=zero.dtype)
            return jnp.broadcast_to(like, (*zero.shape, *like.shape))

        return ScaleByRNNPropState(
            count=jnp.zeros([], jnp.int32),
            momentum=jax.tree.map(zeros, params),
            second_moment=jax.tree.map(zeros, params),
            carry=jax.tree.map(
                lambda zero: jax.tree.map(functools.partial(repeated, zero), params),
                network.initial_carry(),
            ),
        )

    def step_coordinates(corrections, state, gradient):
        (momentum, second, carry), (correct_m, correct_v) = state, corrections
        gradient = gradient.astype(jnp.float32)
        momentum = b1 * momentum + (1 - b1) * gradient
        second = b2 * second + (1 - b2) * gradient * gradient
        scale = jax.lax.rsqrt(second * correct_v + eps)
        inputs = jnp.stack([momentum * correct_m * scale, gradient * scale])
        stepped: Any = network.apply(meta_params, carry, inputs)
        carry, output = stepped
        return (momentum, second, carry), jnp.asarray(output_scale, dtype) * jnp.tanh(output)

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
        corrections = _corrections(count, b1, b2, bias_correction)
        gradients, treedef = jax.tree.flatten(updates)
        inner_def = jax.tree.structure((0, 0, network.initial_carry()))
        trees = inner_def.flatten_up_to(tuple(state[1:]))
        columns = [treedef.flatten_up_to(tree) for tree in trees]
        stepped = [
            in_blocks(
                functools.partial(step_coordinates, corrections),
                inner_def.unflatten(leaves),
                jnp.asarray(gradient),
                block_size,
            )
            for gradient, *leaves in zip(gradients, *columns, strict=True)
        ]
        outputs = [
            output.astype(jnp.result_type(gradient))
            for (_, output), gradient in zip(stepped, gradients, strict=True)
        ]
        if stepped:
            leaves = [jax.tree.leaves(inner) for inner, _ in stepped]
            trees = [treedef.unflatten(column) for column in zip(*leaves, strict=True)]
        return treedef.unflatten(outputs), ScaleByRNNPropState(count, *inner_def.unflatten(trees))

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


def _corrections(
    count: jax.Array, b1: float, b2: float, bias_correction: BiasCorrection
) -> tuple[jax.Array | float, jax.Array | float]:
    """Factors on m and v."""
    if bias_correction == "constant":
        return 1 / (1 - b1), 1 / (1 - b2)
    if not bias_correction:
        return 1.0, 1.0
    steps = count.astype(jnp.float32)
    # 1 - b^t, without the cancellation of float32 where b is near 1
    return tuple(-1 / jnp.expm1(steps * jnp.log1p(jnp.float32(b - 1))) for b in (b1, b2))  # pyright: ignore


def _check_options(
    output_scale: Any, b1: Any, b2: Any, bias_correction: Any, eps: Any, block_size: Any
) -> None:
    check_number("output_scale", output_scale)
    for name, decay in (("b1", b1), ("b2", b2)):
        check_number(name, decay, what="a number of at least 0 and below 1")
        if not isinstance(decay, jax.Array) and not 0 <= decay < 1:
            raise ValueError(f"{name} must be a number of at least 0 and below 1, got {decay}.")
    if not isinstance(bias_correction, bool) and bias_correction != "constant":
        raise ValueError(
            f'bias_correction must be True, False or "constant", got {short(bias_correction)}.'
        )
    check_number("eps", eps, above=0)
    if block_size is not None:
        check_positive_int("block_size", block_size)
