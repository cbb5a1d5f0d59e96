"""Numbers that were given as hyperparameters, beside a state in float32."""

from typing import Any

import jax
import jax.numpy as jnp


def in_float32(value: Any) -> float | jax.Array:
    """`value`, so that what it is multiplied with stays in float32.

    In x64 mode `optax.inject_hyperparams` makes float64 arrays of numbers where the parameters are
    float64, and NumPy's scalars are float64 too; both would make float64 of the state.

    Args:
        value: a number, or a real scalar array, also a traced one.

    Returns:
        an array as a float32 array, any other number as Python's float, which has no dtype.

    Example:
        >>> in_float32(jnp.int32(3)).dtype, in_float32(0.1)
        (dtype('float32'), 0.1)
    """
    if not isinstance(value, jax.Array):
        return float(value)
    return value if value.dtype == jnp.float32 else value.astype(jnp.float32)
