"""Which coordinates the backward pass visits: all of them, or a stratified sample."""

import jax
import jax.numpy as jnp

from l2ljax.base import Key


def sample_coordinates(
    keys: Key, num_coordinates: int, share: float
) -> tuple[jax.Array | None, jax.Array]:
    """A stratified sample for each task: one coordinate from each of `round(share * n)` strata.

    Strata are runs of neighbours, so every layer is visited in proportion.

    Returns:
        the chosen positions, int32 `[num_tasks, k]` (`None` when all are), and their float32
        weights `[num_tasks, k]`, the inverse probabilities that make the sum over the sample
        unbiased (1 when all are chosen).
    """
    count = max(1, round(share * num_coordinates))
    if count >= num_coordinates:
        return None, jnp.ones((keys.shape[0], num_coordinates), jnp.float32)
    edges = jnp.asarray([i * num_coordinates // count for i in range(count + 1)], jnp.int32)
    sizes = jnp.diff(edges)

    def draw(key):
        return edges[:-1] + jax.random.randint(key, (count,), 0, sizes)

    return jax.vmap(draw)(keys), jnp.tile(sizes.astype(jnp.float32), (keys.shape[0], 1))


def take_coordinates(leaf: jax.Array, chosen: jax.Array | None) -> jax.Array:
    """`[..., num_tasks, n]` -> `[..., num_tasks, k]`, at positions `chosen` `[num_tasks, k]`."""
    if chosen is None:
        return leaf
    return jnp.take_along_axis(leaf, jnp.expand_dims(chosen, range(leaf.ndim - 2)), axis=-1)
