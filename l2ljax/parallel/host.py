"""Arrays between the devices and the host, whichever processes hold them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed random keys."""
    return jnp.issubdtype(getattr(leaf, "dtype", np.dtype(bool)), jax.dtypes.prng_key)


def on_host(leaf: Any) -> np.ndarray:
    """All of an array, or of a random key's data; with several processes all must ask for it."""
    if is_key(leaf):
        leaf = jax.random.key_data(leaf)
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))


def placed_like(array: np.ndarray, like: Any) -> jax.Array:
    """What `on_host` gave, back where `like` is: its sharding, and its kind of random key.

    It shares no memory with `array`, as states are donated. Where `like` is not bound to its device
    neither is this: else a program would be compiled anew for it, with other last bits.
    """
    sharding: Any = like.sharding if getattr(like, "committed", False) else None
    here: bool = sharding is None or sharding.is_fully_addressable

    def put(array):
        if here:
            return jax.device_put(array, sharding, may_alias=False)
        where: Any = sharding
        return jax.make_array_from_callback(array.shape, where, lambda index: array[index])

    if not is_key(like):
        return put(array)
    impl = jax.random.key_impl(like)
    if here:
        return put(jax.random.wrap_key_data(jnp.asarray(array), impl=impl))
    return jax.random.wrap_key_data(put(array), impl=impl)
