"""Square roots of what may be exactly 0 and is differentiated."""

import jax
import jax.numpy as jnp


def root(x: jax.Array) -> jax.Array:
    """The square root, with a slope of 0 at 0.

    There it is infinite, and times the slope 0 of a square inside makes NaN of every derivative
    that goes through, of parameters that are 0 as of gradients that are.

    Args:
        x: of any shape, at least 0.

    Returns:
        of that shape and dtype; NaN of NaN.

    Example:
        >>> slope = jax.grad(lambda x: root(jnp.sum(x**2)))
        >>> slope(jnp.zeros(2)).tolist(), slope(jnp.array([3.0, 4.0])).round(1).tolist()
        ([0.0, 0.0], [0.6000000238418579, 0.800000011920929])
    """
    zero = x == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))
