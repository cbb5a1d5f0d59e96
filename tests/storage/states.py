"""States to save, what is restored of them, and whether it is the same."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.storage import checkpoint


def make_state(seed):
    """Arrays of several sizes and dtypes, a random key and an empty one among them."""
    key = jax.random.key(seed)
    return {
        "key": key,
        "update": jnp.int32(seed),
        "large": [jax.random.normal(key, (40, 100))],
        "small": {
            "bfloat16": jax.random.normal(key, (3,), jnp.bfloat16),
            "complex": jnp.complex64(seed + 1j),
            "empty": jnp.zeros((0, 2)),
            "float8": jax.random.normal(key, (5,)).astype(jnp.float8_e4m3fn),
        },
    }


def host(state):
    return [
        np.asarray(jax.random.key_data(leaf) if leaf is state["key"] else leaf)
        for leaf in jax.tree.leaves(state)
    ]


def same(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(host(a), host(b), strict=True))


def restore(folder):
    """What is restored, and the warnings of l2ljax on the way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = checkpoint.load(folder, repair=True)
        state = checkpoint.place(found, make_state(0))
    return (state, found.extra), [
        str(w.message) for w in caught if "went on from" in str(w.message)
    ]
