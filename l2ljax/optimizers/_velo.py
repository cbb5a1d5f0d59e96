"""VeLO's rule (Metz et al. 2022, "VeLO", arXiv:2211.09760; `HyperV2` in its authors' code).

An LSTM a tensor sees time, losses and statistics of the tensor, and mixes the weights of a bank of
small networks into one for that tensor: W = 100 mean_k (c_k W_k). The network then steps each
coordinate as Celo's does: theta' = theta - 0.001 s o_0 exp(o_1 / 1000) rms(theta).
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import Key, LearnedOptimizer, MetaParams, PyTree
from l2ljax.checks import check_like, check_number, check_positive_int, check_real_floating
from l2ljax.optimizers._celo import map_to_trees, network_arrays, scheduler_arrays
from l2ljax.optimizers.features import mean_over
from l2ljax.optimizers.networks import LSTMCarry
from l2ljax.optimizers.scalars import in_float32
from l2ljax.optimizers.scheduler import (
    NUM_FEATURES,
    LossBuffer,
    checked_num_steps,
    first_carry,
    fraction_features,
    fresh_losses,
    init_linear,
    init_scheduler,
    linear,
    loss_features,
    run_scheduler,
    update_losses,
)
from l2ljax.optimizers.sharding import axis_in_front
from l2ljax.optimizers.signs import negated
from l2ljax.optimizers.tensor_features import (
    Moments,
    check_read,
    clipped,
    init_network,
    network_step,
    tensor_features,
    update_tensor_moments,
    zero_tensor_moments,
)
from l2ljax.optimizers.update_inputs import check_update_inputs
from l2ljax.specification import specified

NUM_STATISTICS = 12
"""Of a tensor: 1 of the second moment, 5 of its rank, 3 and 3 of variances."""

BANK_SCALE = 100.0


class VeLOState(NamedTuple):
    """State of `scale_by_velo`.

    Attributes:
        count: int32 scalar, updates made so far (it stops at the largest int32).
        losses: averages of the loss.
        carry: `[num_tensors, hidden]`, in the order of `jax.tree.leaves(params)`.
        moments: trees like the parameters.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    losses: LossBuffer
    carry: LSTMCarry
    moments: Moments


@specified("velo")
def velo(
    num_steps: int,
    *,
    hidden_size: int = 512,
    bank_size: int = 256,
    width: int = 4,
    step_scale: float = 0.001,
) -> LearnedOptimizer:
    """VeLO: an LSTM a tensor mixes the small network that steps the tensor's coordinates.

    It reads the parameters, the tensor as a whole, the loss (`update(..., value=loss)`) and the
    length of training. Its authors' weights are in no public repository, so what one gets here is
    the architecture, held to their code's numbers. State: 16 bytes a coordinate of a matrix, 28 of
    a vector, and 8 `hidden_size` a tensor. About 800 FLOPs a coordinate, and a step of the LSTM a
    tensor. Their code has two faults as options: averages over ten steps only, and an LSTM whose
    state never advances; neither is here. Two others belong to the rule and are: the statistic
    called variance of the second moment is taken around the mean of the first, and statistics
    are those before this step's gradient.

    Args:
        num_steps: length of training, at least 2.
        hidden_size: of the LSTM.
        bank_size: networks in the bank.
        width: of their two hidden layers.
        step_scale: factor on every step.

    Returns:
        a `LearnedOptimizer`; its meta-parameters are `{"scheduler": ..., "step_size": {"w", "b"},
        "controls": {"w": [hidden_size, bank_size], "b": [bank_size]}, "bank": {"w0": [bank_size,
        30, width], ...}}`.

    Raises:
        ValueError: for an argument that is not of its kind; from `update`, without `value=` or
            `params`.

    Example:
        >>> optimizer = velo(num_steps=100, hidden_size=8, bank_size=4)
        >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)))
        >>> params = jnp.ones((3, 2))
        >>> updates, _ = tx.update(params, tx.init(params), params, value=1.0)
        >>> updates.shape
        (3, 2)
    """
    checked_num_steps(num_steps)
    check_positive_int("hidden_size", hidden_size)
    check_positive_int("bank_size", bank_size)
    check_positive_int("width", width)
    check_number("step_scale", step_scale)
    scale = functools.partial(scale_by_velo, num_steps=num_steps, step_scale=step_scale)
    return LearnedOptimizer(
        functools.partial(_init, hidden_size=hidden_size, bank_size=bank_size, width=width),
        lambda meta_params: negated(scale(meta_params)),
    )


def scale_by_velo(
    meta_params: MetaParams, *, num_steps: int, step_scale: float | jax.Array = 0.001
) -> optax.GradientTransformationExtraArgs:
    """Replaces gradients by VeLO's steps, in Optax's sign: `scale_by_learning_rate(1.0)` follows.

    Args:
        meta_params: what `velo(...).init` gives.
        num_steps: length of training, at least 2.
        step_scale: factor on every step, a number or a scalar array (`optax.inject_hyperparams`).

    Returns:
        an Optax transformation with a `VeLOState`; `update` needs `value=` and `params`.

    Raises:
        ValueError: for another `num_steps` or `step_scale`; if `meta_params` are not of the shapes
            that `velo` has; from `update`, without `value=` or `params`.
        TypeError: from `init` and `update`, if a leaf is not of a real floating dtype.

    Example:
        >>> meta_params = velo(num_steps=50, hidden_size=8, bank_size=4).init(jax.random.key(0))
        >>> tx = optax.chain(
        ...     scale_by_velo(meta_params, num_steps=50), optax.scale_by_learning_rate(1.0)
        ... )
    """
    _check_meta_params(meta_params)
    num_steps = checked_num_steps(num_steps)
    check_number("step_scale", step_scale)
    step_scale = in_float32(step_scale)
    # The carry begins with some of them, and goes on in float32.
    meta_params = optax.tree.cast(meta_params, jnp.float32)

    def init(params: PyTree) -> VeLOState:
        check_real_floating(params, "parameter")
        fields = (
            axis_in_front(
                jax.tree.map(lambda p, f=f: getattr(zero_tensor_moments(jnp.asarray(p)), f), params)
            )
            for f in Moments._fields
        )
        num_tensors = len(jax.tree.leaves(params))
        carry = first_carry(meta_params["scheduler"], num_tensors)
        return VeLOState(jnp.zeros([], jnp.int32), fresh_losses(), carry, Moments(*fields))

    def update(
        updates: PyTree, state: Any, params: PyTree = None, *, value: Any = None, **extra_args: Any
    ) -> tuple[PyTree, VeLOState]:
        del extra_args
        check_real_floating(updates, "gradient")
        value = check_read("velo", updates, params, value)
        check_update_inputs("scale_by_velo", updates, state.moments.first, params, in_front=1)
        count = jnp.asarray(optax.safe_increment(state.count))
        losses = update_losses(state.losses, value, state.count, num_steps)
        if not jax.tree.leaves(updates):
            return updates, VeLOState(count, losses, state.carry, state.moments)
        shared = [
            fraction_features(state.count, num_steps),
            loss_features(losses, count, num_steps),
        ]
        (statistics,) = map_to_trees(lambda p, m, v: (_statistics(p, m, v),), 1, params,
                                     state.moments.first, state.moments.second)  # fmt: skip
        rows = [jnp.concatenate([*shared, row]) for row in jax.tree.leaves(statistics)]
        hidden, carry = run_scheduler(meta_params["scheduler"], state.carry, jnp.stack(rows))
        sizes = linear(meta_params["step_size"], hidden)[:, 0]
        controls = linear(meta_params["controls"], hidden)
        tensor = iter(range(len(rows)))

        def step(gradient, param, *moments):
            i = next(tensor)
            g, p = clipped(gradient), jnp.asarray(param, jnp.float32)
            moved = update_tensor_moments(Moments(*moments), g)
            network = _mixed(meta_params["bank"], controls[i])
            proposal = network_step(network, tensor_features(moved, g, p), p)
            return (step_scale * sizes[i] * proposal).astype(jnp.result_type(gradient)), *moved

        stepped, *moments = map_to_trees(step, 5, updates, params, *state.moments)
        return stepped, VeLOState(count, losses, carry, Moments(*moments))

    return optax.GradientTransformationExtraArgs(init, update)


def from_velo_arrays(arrays: Mapping[str, Any]) -> MetaParams:
    """Meta-parameters of `velo` from arrays named as its authors' code names them."""
    controls = {
        name: jnp.asarray(arrays[f"rnn_params.rnn_to_controls.{name}"], jnp.float32)
        for name in ("w", "b")
    }
    return {**scheduler_arrays(arrays), "controls": controls, "bank": network_arrays(arrays)}


def _statistics(param: Any, first: jax.Array, second: jax.Array) -> jax.Array:
    """What the LSTM sees of a tensor and its moments `[3, *shape]` and `[1, *shape]`: `[12]`."""
    param = jnp.asarray(param, jnp.float32)
    scale = jax.lax.rsqrt(jnp.maximum(1e-9, mean_over(param * param, tuple(range(param.ndim)))))
    first, second = first * scale, second * scale
    axes = tuple(range(1, param.ndim + 1))
    mean_first, mean_second = mean_over(first, axes), mean_over(second, axes)
    variance_first = mean_over(jnp.square(first - mean_first), axes)
    variance_second = mean_over(jnp.square(second - mean_first), axes)  # the published rule's
    rank = jax.nn.one_hot(sum(size > 1 for size in param.shape), 5, dtype=jnp.float32)
    return jnp.concatenate(
        [_logarithm(mean_second), rank, _logarithm(variance_first), _logarithm(variance_second)]
    )


def _logarithm(x: jax.Array) -> jax.Array:
    return 0.5 * jnp.clip(jnp.log(1e-8 + jnp.abs(10 * x)), -5, 5).ravel()


def _mixed(bank: dict[str, jax.Array], controls: jax.Array) -> dict[str, jax.Array]:
    """One network from the bank: 100 mean_k (c_k W_k) of every array."""
    share = BANK_SCALE / controls.shape[0]
    return {name: share * jnp.tensordot(controls, w, axes=1) for name, w in bank.items()}


def _init(key: Key, *, hidden_size: int, bank_size: int, width: int) -> MetaParams:
    keys = jax.random.split(key, 4)
    bank = jax.vmap(functools.partial(init_network, width=width))(
        jax.random.split(keys[3], bank_size)
    )
    return {
        "scheduler": init_scheduler(keys[0], NUM_FEATURES + NUM_STATISTICS, hidden_size),
        "step_size": init_linear(keys[1], hidden_size, 1),
        "controls": init_linear(keys[2], hidden_size, bank_size),
        "bank": bank,
    }


def _check_meta_params(meta_params: MetaParams) -> None:
    try:
        hidden_size = meta_params["scheduler"]["hidden"].shape[0]
        bank_size, width = meta_params["bank"]["b0"].shape
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        hidden_size, bank_size, width = 512, 256, 4
    init = functools.partial(_init, hidden_size=hidden_size, bank_size=bank_size, width=width)
    like = jax.eval_shape(init, jax.random.key(0))
    check_like(like, meta_params, "meta_params", "use init of velo")
