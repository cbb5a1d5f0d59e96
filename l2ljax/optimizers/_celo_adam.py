"""Celo-Adam (Moudgil et al. 2025): Celo's scheduler sets the size of Adam's step.

theta' = theta - 0.001 s m / (sqrt(v + 1e-10) + 1e-8), with bias-corrected moments m and v of decays
0.9 and 0.999, and s = 0.1 exp(linear(LSTM)) as in Celo. The published code also keeps factored
moments that it never uses; this does not.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import Key, LearnedOptimizer, MetaParams, PyTree
from l2ljax.checks import check_like, check_number, check_positive_int, check_real_floating
from l2ljax.optimizers._celo import map_to_trees, scheduled_size, scheduler_arrays
from l2ljax.optimizers.networks import LSTMCarry
from l2ljax.optimizers.scalars import in_float32
from l2ljax.optimizers.scheduler import (
    NUM_FEATURES,
    LossBuffer,
    checked_num_steps,
    first_carry,
    fresh_losses,
    init_linear,
    init_scheduler,
)
from l2ljax.optimizers.signs import negated
from l2ljax.optimizers.tensor_features import check_read, clipped
from l2ljax.optimizers.update_inputs import check_update_inputs
from l2ljax.specification import specified

B1, B2 = 0.9, 0.999


class CeloAdamState(NamedTuple):
    """State of `scale_by_celo_adam`.

    Attributes:
        count: int32 scalar, updates made so far (it stops at the largest int32).
        losses: averages of the loss.
        carry: `[1, hidden]`, the scheduler's; one for all tensors, which see the same.
        mu: first moments, a float32 tree like the parameters.
        nu: second moments, likewise.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    losses: LossBuffer
    carry: LSTMCarry
    mu: PyTree
    nu: PyTree


@specified("celo_adam")
def celo_adam(
    num_steps: int, *, hidden_size: int = 64, step_scale: float = 0.001
) -> LearnedOptimizer:
    """Celo-Adam: an LSTM that sees time and losses sets the size of Adam's step.

    It reads the loss (`update(..., value=loss)`) and the length of training, no parameters. Cost a
    coordinate: Adam's; state: 8 bytes a coordinate.

    Args:
        num_steps: length of training, at least 2. The published weights were trained up to 2,000.
        hidden_size: of the LSTM.
        step_scale: factor on every step.

    Returns:
        a `LearnedOptimizer`; its meta-parameters are `{"scheduler": ..., "step_size": {"w":
        [hidden_size, 1], "b": [1]}}`.

    Raises:
        ValueError: for an argument that is not of its kind; from `update`, without `value=`.

    Example:
        >>> optimizer = celo_adam(num_steps=100, hidden_size=8)
        >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)))
        >>> updates, _ = tx.update(jnp.ones(2), tx.init(jnp.ones(2)), value=1.0)
        >>> bool((updates < 0).all())
        True
    """
    checked_num_steps(num_steps)
    check_positive_int("hidden_size", hidden_size)
    check_number("step_scale", step_scale)
    scale = functools.partial(scale_by_celo_adam, num_steps=num_steps, step_scale=step_scale)
    return LearnedOptimizer(
        functools.partial(_init, hidden_size=hidden_size),
        lambda meta_params: negated(scale(meta_params)),
    )


def scale_by_celo_adam(
    meta_params: MetaParams, *, num_steps: int, step_scale: float | jax.Array = 0.001
) -> optax.GradientTransformationExtraArgs:
    """Replaces gradients by Celo-Adam's steps, in Optax's sign: a learning rate of 1 follows.

    Args:
        meta_params: what `celo_adam(...).init` or `from_published("celo-adam", ...)` gives.
        num_steps: length of training, at least 2.
        step_scale: factor on every step, a number or a scalar array (`optax.inject_hyperparams`).

    Returns:
        an Optax transformation with a `CeloAdamState`; `update` needs `value=`.

    Raises:
        ValueError: for another `num_steps` or `step_scale`; if `meta_params` are not of the shapes
            that `celo_adam` has; from `update`, without `value=`.
        TypeError: from `init` and `update`, if a leaf is not of a real floating dtype.

    Example:
        >>> meta_params = celo_adam(num_steps=50, hidden_size=8).init(jax.random.key(0))
        >>> tx = optax.chain(
        ...     scale_by_celo_adam(meta_params, num_steps=50), optax.scale_by_learning_rate(1.0)
        ... )
    """
    _check_meta_params(meta_params)
    num_steps = checked_num_steps(num_steps)
    check_number("step_scale", step_scale)
    step_scale = in_float32(step_scale)
    # The carry begins with some of them, and goes on in float32.
    meta_params = optax.tree.cast(meta_params, jnp.float32)

    def zeros(params: PyTree) -> PyTree:
        return jax.tree.map(lambda p: jnp.zeros_like(p, dtype=jnp.float32), params)

    def init(params: PyTree) -> CeloAdamState:
        check_real_floating(params, "parameter")
        return CeloAdamState(
            jnp.zeros([], jnp.int32),
            fresh_losses(),
            first_carry(meta_params["scheduler"], 1),
            zeros(params),
            zeros(params),
        )

    def update(
        updates: PyTree, state: Any, params: PyTree = None, *, value: Any = None, **extra_args: Any
    ) -> tuple[PyTree, CeloAdamState]:
        del extra_args
        check_real_floating(updates, "gradient")
        value = check_read("celo_adam", (), params, value)
        check_update_inputs("scale_by_celo_adam", updates, state.mu)
        size, losses, carry = scheduled_size(
            meta_params, state.losses, state.carry, value, state.count, num_steps
        )
        count = jnp.asarray(optax.safe_increment(state.count))
        t = count.astype(jnp.float32)

        def step(gradient, mu, nu):
            g = clipped(gradient)
            mu, nu = B1 * mu + (1 - B1) * g, B2 * nu + (1 - B2) * g * g
            root = jnp.sqrt(nu / (1 - B2**t) + 1e-10) + 1e-8
            proposal = step_scale * size * (mu / (1 - B1**t)) / root
            return proposal.astype(jnp.result_type(gradient)), mu, nu

        stepped, mu, nu = map_to_trees(step, 3, updates, state.mu, state.nu)
        return stepped, CeloAdamState(count, losses, carry, mu, nu)

    return optax.GradientTransformationExtraArgs(init, update)


def from_celo_adam_arrays(arrays: Mapping[str, Any]) -> MetaParams:
    """Meta-parameters of `celo_adam` from the arrays of its published weights, by their names."""
    return scheduler_arrays(arrays)


def _init(key: Key, *, hidden_size: int) -> MetaParams:
    keys = jax.random.split(key)
    return {
        "scheduler": init_scheduler(keys[0], NUM_FEATURES, hidden_size),
        "step_size": init_linear(keys[1], hidden_size, 1),
    }


def _check_meta_params(meta_params: MetaParams) -> None:
    try:
        hidden_size = meta_params["scheduler"]["hidden"].shape[0]
    except (KeyError, TypeError, AttributeError, IndexError):
        hidden_size = 64
    like = jax.eval_shape(functools.partial(_init, hidden_size=hidden_size), jax.random.key(0))
    check_like(like, meta_params, "meta_params", "use init of celo_adam, or its published weights")
