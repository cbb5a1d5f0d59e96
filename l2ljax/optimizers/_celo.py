"""Celo (Moudgil et al. 2025, "Celo: training versatile learned optimizers on a compute diet").

A scheduler, one LSTM that sees how much of training is over and how the loss develops, sets the
size of the step; a network of 175 weights, which sees moments of the gradient, its direction:
theta' = theta - 0.001 s o_0 exp(o_1 / 1000) rms(theta), with s = 0.1 exp(linear(LSTM)).
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import Key, LearnedOptimizer, MetaParams, PyTree
from l2ljax.checks import check_like, check_number, check_positive_int, check_real_floating
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


class CeloState(NamedTuple):
    """State of `scale_by_celo`.

    Attributes:
        count: int32 scalar, updates made so far (it stops at the largest int32).
        losses: averages of the loss.
        carry: `[1, hidden]`. Celo has an LSTM a tensor, but all start alike and see the same, so
            one is kept.
        moments: trees like the parameters.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    losses: LossBuffer
    carry: LSTMCarry
    moments: Moments


@specified("celo")
def celo(
    num_steps: int, *, hidden_size: int = 64, width: int = 4, step_scale: float = 0.001
) -> LearnedOptimizer:
    """Celo: an LSTM sets the step's size, a small network its direction.

    It reads the parameters, the tensor as a whole (features are normalised over it), the loss
    (`update(..., value=loss)`) and the length of training. About 800 FLOPs a coordinate; state: 16
    bytes a coordinate of a matrix, 28 of a vector.

    Args:
        num_steps: length of training, at least 2. The published weights were trained up to 2,000.
        hidden_size: of the LSTM.
        width: of the network's two hidden layers.
        step_scale: factor on every step.

    Returns:
        a `LearnedOptimizer`; its meta-parameters are `{"scheduler": ..., "step_size": {"w":
        [hidden_size, 1], "b": [1]}, "network": {"w0": [30, width], "b0": [width], ...}}`.

    Raises:
        ValueError: for an argument that is not of its kind; from `update`, without `value=` or
            `params`.

    Example:
        >>> optimizer = celo(num_steps=100, hidden_size=8)
        >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)))
        >>> params = jnp.ones((3, 2))
        >>> updates, _ = tx.update(params, tx.init(params), params, value=1.0)
        >>> updates.shape
        (3, 2)
    """
    checked_num_steps(num_steps)
    check_positive_int("hidden_size", hidden_size)
    check_positive_int("width", width)
    check_number("step_scale", step_scale)
    init = functools.partial(_init, hidden_size=hidden_size, width=width)
    scale = functools.partial(scale_by_celo, num_steps=num_steps, step_scale=step_scale)
    return LearnedOptimizer(init, lambda meta_params: negated(scale(meta_params)))


def scale_by_celo(
    meta_params: MetaParams, *, num_steps: int, step_scale: float | jax.Array = 0.001
) -> optax.GradientTransformationExtraArgs:
    """Replaces gradients by Celo's steps, in Optax's sign: `scale_by_learning_rate(1.0)` follows.

    Args:
        meta_params: what `celo(...).init` or `from_published("celo", ...)` gives.
        num_steps: length of training, at least 2.
        step_scale: factor on every step, a number or a scalar array (`optax.inject_hyperparams`).

    Returns:
        an Optax transformation with a `CeloState`; `update` needs `value=` and `params`.

    Raises:
        ValueError: for another `num_steps` or `step_scale`; if `meta_params` are not of the shapes
            that `celo` has; from `update`, without `value=` or `params`.
        TypeError: from `init` and `update`, if a leaf is not of a real floating dtype.

    Example:
        >>> meta_params = celo(num_steps=50, hidden_size=8).init(jax.random.key(0))
        >>> tx = optax.chain(
        ...     scale_by_celo(meta_params, num_steps=50), optax.scale_by_learning_rate(1.0)
        ... )
    """
    _check_meta_params(meta_params)
    num_steps = checked_num_steps(num_steps)
    check_number("step_scale", step_scale)
    step_scale = in_float32(step_scale)
    # The carry begins with some of them, and goes on in float32.
    meta_params = optax.tree.cast(meta_params, jnp.float32)

    def init(params: PyTree) -> CeloState:
        check_real_floating(params, "parameter")
        return CeloState(
            jnp.zeros([], jnp.int32),
            fresh_losses(),
            first_carry(meta_params["scheduler"], 1),
            Moments(*(_moments_tree(params, field) for field in Moments._fields)),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, *, value: Any = None, **extra_args: Any
    ) -> tuple[PyTree, CeloState]:
        del extra_args
        check_real_floating(updates, "gradient")
        value = check_read("celo", updates, params, value)
        check_update_inputs("scale_by_celo", updates, state.moments.first, params, in_front=1)
        size, losses, carry = scheduled_size(
            meta_params, state.losses, state.carry, value, state.count, num_steps
        )

        def step(gradient, param, *moments):
            g, p = clipped(gradient), jnp.asarray(param, jnp.float32)
            moved = update_tensor_moments(Moments(*moments), g)
            proposal = network_step(meta_params["network"], tensor_features(moved, g, p), p)
            return (step_scale * size * proposal).astype(jnp.result_type(gradient)), *moved

        stepped, *moments = map_to_trees(step, 5, updates, params, *state.moments)
        count = jnp.asarray(optax.safe_increment(state.count))
        return stepped, CeloState(count, losses, carry, Moments(*moments))

    return optax.GradientTransformationExtraArgs(init, update)


def scheduled_size(
    meta_params: MetaParams,
    losses: LossBuffer,
    carry: LSTMCarry,
    value: jax.Array,
    count: jax.Array,
    num_steps: int,
) -> tuple[jax.Array, LossBuffer, LSTMCarry]:
    """The factor s on all steps, 0.1 exp(linear(LSTM)), and what the scheduler remembers next.

    Args:
        meta_params: with "scheduler" and "step_size".
        losses: averages of the losses so far.
        carry: `[1, hidden]`.
        value: float32 scalar, this step's loss.
        count: int32 scalar, steps before this one.
        num_steps: length of training.
    """
    losses = update_losses(losses, value, count, num_steps)
    seen = jnp.asarray(optax.safe_increment(count))
    features = [fraction_features(count, num_steps), loss_features(losses, seen, num_steps)]
    hidden, carry = run_scheduler(meta_params["scheduler"], carry, jnp.concatenate(features)[None])
    return 0.1 * jnp.exp(linear(meta_params["step_size"], hidden)[0, 0]), losses, carry


def map_to_trees(function: Any, num_outputs: int, tree: PyTree, *rest: PyTree) -> list[PyTree]:
    """A function with several outputs, leaf by leaf: one tree for each of them.

    The first is like `tree`, the others like the last of `rest`: boxes around a state's arrays name
    more axes than those of the parameters.
    """
    columns = [jax.tree.leaves(other) for other in (tree, *rest)]
    results = [function(*row) for row in zip(*columns, strict=True)]
    like = (tree, *rest[len(rest) - num_outputs + 1 :])
    return [
        jax.tree.structure(one).unflatten([result[i] for result in results])
        for i, one in enumerate(like)
    ]


def scheduler_arrays(arrays: Mapping[str, Any]) -> MetaParams:
    """Celo's and VeLO's published names -> "scheduler" and "step_size" of meta-parameters.

    Args:
        arrays: name -> array, such as "rnn_params.linear_1.w".
    """
    read = {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}

    def layer(name: str) -> dict[str, jax.Array]:
        return {"w": read[f"rnn_params.{name}.w"], "b": read[f"rnn_params.{name}.b"]}

    return {
        "scheduler": {
            "linear_1": layer("linear_1"),
            "linear_2": layer("linear_2"),
            "lstm": layer("rnn.linear"),
            "hidden": read["lstm_init_state.hidden"][0],
            "cell": read["lstm_init_state.cell"][0],
        },
        "step_size": layer("step_size"),
    }


def network_arrays(arrays: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Published names -> a bank of networks: "w0" `[bank, 30, width]`, "b0" `[bank, width]`, ..."""
    prefix = "ff_mod_stack.~."
    first = [arrays[f"{prefix}w0__{i}"] for i in range(14)]
    weights = {"w0": jnp.concatenate([jnp.asarray(w, jnp.float32) for w in first], axis=1)}
    for name in ("b0", "w1", "b1", "w2", "b2"):
        weights[name] = jnp.asarray(arrays[prefix + name], jnp.float32)
    return weights


def from_celo_arrays(arrays: Mapping[str, Any]) -> MetaParams:
    """Meta-parameters of `celo` from the arrays of its published weights, by their names."""
    network = jax.tree.map(lambda bank: bank[0], network_arrays(arrays))
    return {**scheduler_arrays(arrays), "network": network}


def _init(key: Key, *, hidden_size: int, width: int) -> MetaParams:
    keys = jax.random.split(key, 3)
    return {
        "scheduler": init_scheduler(keys[0], NUM_FEATURES, hidden_size),
        "step_size": init_linear(keys[1], hidden_size, 1),
        "network": init_network(keys[2], width),
    }


def _check_meta_params(meta_params: MetaParams) -> None:
    try:
        hidden_size = meta_params["scheduler"]["hidden"].shape[0]
        width = meta_params["network"]["b0"].shape[0]
    except (KeyError, TypeError, AttributeError, IndexError):
        hidden_size, width = 64, 4
    like = jax.eval_shape(
        functools.partial(_init, hidden_size=hidden_size, width=width), jax.random.key(0)
    )
    check_like(like, meta_params, "meta_params", "use init of celo, or its published weights")


def _moments_tree(params: PyTree, field: str) -> PyTree:
    moments = jax.tree.map(lambda p: getattr(zero_tensor_moments(jnp.asarray(p)), field), params)
    return axis_in_front(moments)
