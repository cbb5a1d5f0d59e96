"""From Optax's sign to a learned optimizer's, and back."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import PyTree


def negated(tx: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """`tx` with the other sign, and the very state of `tx` (a chain would wrap it in a tuple).

    A `scale_by_*` returns what is to be subtracted, `LearnedOptimizer.transform` what is to be
    added.

    Example:
        >>> tx = negated(optax.with_extra_args_support(optax.scale_by_adam()))
        >>> updates, _ = tx.update(jnp.ones(1), tx.init(jnp.ones(1)))
        >>> float(updates[0].round())
        -1.0
    """

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, Any]:
        updates, state = tx.update(updates, state, params, **extra_args)
        return jax.tree.map(jnp.negative, updates), state

    return optax.GradientTransformationExtraArgs(tx.init, update)
