"""Random keys that compile quickly: a hash of eight operations in place of Threefry's loops.

Half of what XLA compiles of a small meta-update is Threefry, 50 times over. What is tested with
these keys compares one computation with another, and asks little of its random numbers. The hash is
C. Wellons' "lowbias32" (nullprogram.com/blog/2018/07/31).
"""

import math

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl


def mixed(words: jax.Array) -> jax.Array:
    """Each uint32 hashed: a bijection."""
    words = (words ^ (words >> 16)) * jnp.uint32(0x7FEB352D)
    words = (words ^ (words >> 15)) * jnp.uint32(0x846CA68B)
    return words ^ (words >> 16)


def _places(shape):
    return jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)


def _seed(seed):
    return mixed(seed.astype(jnp.uint32) + jnp.uint32(0x9E3779B9))[None]


def _split(key, shape):
    return mixed(key[0] + mixed(_places(shape) + jnp.uint32(0x85EBCA6B)))[..., None]


def _random_bits(key, width, shape):
    if width != 32:
        raise ValueError(f"Hashed keys give words of 32 bits, asked for {width}.")
    return mixed(key[0] ^ mixed(_places(shape) * jnp.uint32(0x9E3779B9) + key[0]))


def _fold_in(key, number):
    return mixed(key + mixed(jnp.uint32(number) + jnp.uint32(0xC2B2AE35)))


HASHED = define_prng_impl(
    key_shape=(1,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="hashed",
    tag="hash",
)
"""For `jax.random.key(seed, impl=HASHED)`."""
