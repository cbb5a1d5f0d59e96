"""How many optimizees run side by side.

On a CPU an inner step reads and writes the states of all that do. A learned optimizer keeps tens or
hundreds of bytes a parameter, and states that do not stay in the processor's cache cost more than
the wider operations gain.
"""

from collections.abc import Callable
from typing import Any

import jax

from l2ljax.base import Key

CACHE = 6 * 2**20
"""Bytes of states, about what the second-level caches of a few cores hold."""


def map_side_by_side(function: Callable[[Key], Any], keys: Key, state: Any, most: int) -> Any:
    """`function` of each of `keys`, at most `most` of them at once.

    Args:
        function: runs one optimizee.
        keys: `[number]`.
        state: arrays or shapes that one optimizee carries from step to step.
        most: as many as memory allows; at least 1.

    Returns:
        what it returns, leaves `[number, ...]`.

    Example:
        >>> import jax.numpy as jnp
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> map_side_by_side(lambda key: jnp.ones(2), keys, jnp.zeros(5), most=2).shape
        (3, 2)
    """
    number = min(most, len(keys), fitting(state))
    return jax.lax.map(function, keys, batch_size=number if number > 1 else None)


def fitting(state: Any) -> int:
    """How many such states the cache holds, at least 1; of an accelerator, any number.

    Example:
        >>> import jax.numpy as jnp
        >>> fitting(jnp.zeros(10)) > 64
        True
    """
    if jax.default_backend() != "cpu":
        return 2**31 - 1
    leaves = [leaf for leaf in jax.tree.leaves(state) if hasattr(leaf, "dtype")]
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    return max(1, CACHE // max(held, 1))
