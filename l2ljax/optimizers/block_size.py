"""How many coordinates of a parameter are updated at once, as an argument."""

from typing import Any, Literal

import jax

from l2ljax.checks import check_positive_int

BlockSize = int | None | Literal["default"]
"""The default has a name: of a number `optax.inject_hyperparams` would make an array."""


def checked_block_size(block_size: Any, default: int) -> int | None:
    """`block_size`, or `default` where that is meant.

    Raises:
        ValueError: for anything but a positive integer, `None` and "default".
    """
    if isinstance(block_size, jax.Array):
        raise ValueError(
            "block_size must be an integer that is known when the step is compiled, got "
            'an array; for optax.inject_hyperparams add static_args="block_size".'
        )
    if block_size == "default":
        return default
    if block_size is not None:
        check_positive_int("block_size", block_size)
    return block_size
