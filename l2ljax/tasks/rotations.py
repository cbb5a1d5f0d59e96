"""Random rotations that many optimizees can draw at once, on any device.

On CPU, JAX factors a batch of matrices on the threads of its pool and waits there until all are
done; where several batches are under way at once, as with the three kernels of a GRU on two cores,
each thread waits for the others and the program stands still for ever (jaxlib 0.10.2). One matrix
at a time needs no other thread.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from l2ljax.base import Key


def orthogonal(key: Key, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
    """An orthogonal matrix, uniformly drawn; under `jax.vmap` one after another.

    What `jax.nn.initializers.orthogonal()` draws from the same key, bit by bit (Mezzadri 2007,
    arXiv:math-ph/0609050). An initializer for Flax, too, e.g. the `recurrent_kernel_init` of a GRU
    or LSTM cell.

    Args:
        key: a key; a batch of them under `jax.vmap`.
        shape: `(rows, columns)`; the shorter side's vectors are orthonormal.
        dtype: of the matrix.

    Returns:
        `[rows, columns]`.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 5)
        >>> many = jax.vmap(lambda key: orthogonal(key, (3, 3)))(keys)
        >>> bool(jnp.allclose(many[4] @ many[4].T, jnp.eye(3), atol=1e-5))
        True
    """
    return _one_by_one(tuple(shape), dtype)(key)


@functools.cache
def _one_by_one(shape: tuple[int, int], dtype: Any) -> Any:
    init = jax.nn.initializers.orthogonal()

    @jax.custom_batching.sequential_vmap
    def draw(key: Key) -> jax.Array:
        return init(key, shape, dtype)

    return draw
