"""What a guard's tests read of two updates: four numbers.

Plain sums, which compilers know how to make fast; a number that is not finite shows in them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from l2ljax.base import PyTree


class Seen(NamedTuple):
    """Scalars of one step; u is the learned update, v the fallback's, g the gradient.

    Attributes:
        learned_norm: of u over all parameters, float32; not finite where a number of u is not.
        fallback_norm: of v.
        learned_slope: <g, u>, what u changes of the loss in first order; 0 where that is not
            finite.
        fallback_slope: <g, v>.
    """

    learned_norm: jax.Array
    fallback_norm: jax.Array
    learned_slope: jax.Array
    fallback_slope: jax.Array


def look_at(gradient: PyTree, ours: PyTree, safe: PyTree) -> Seen:
    """All that is tested of one step, updates and gradient of one structure."""
    return Seen(
        learned_norm=jnp.sqrt(_product(ours, ours)),
        fallback_norm=jnp.sqrt(_product(safe, safe)),
        learned_slope=_or_zero(_product(gradient, ours)),
        fallback_slope=_or_zero(_product(gradient, safe)),
    )


def _product(a: PyTree, b: PyTree) -> jax.Array:
    # sums of products and no dot, which wants to be told how explicitly sharded arrays contract
    products = [
        jnp.sum(jnp.asarray(x, jnp.float32) * jnp.asarray(y, jnp.float32))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    ]
    return jnp.sum(jnp.stack([jnp.zeros([], jnp.float32), *products]))


def _or_zero(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(x), x, 0)
