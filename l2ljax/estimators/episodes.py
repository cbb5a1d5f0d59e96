"""Episodes of tasks that stand apart: how long each is, and where each first one ends.

Tasks of a batch may be at different places of their episodes, so that a meta-gradient sees early
and late steps at once, and lengths may be drawn, so that no horizon is learned.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from l2ljax.base import Instance, Key, Task
from l2ljax.checks import check_positive_int, short


class Episodes(NamedTuple):
    """Where each task stands; leaves have a leading axis `[tasks]`.

    Attributes:
        position: int32, inner steps made in this episode.
        length: int32, those it has in all; where `position` has come to it, a new one begins.
        instance: the draw f ~ p(f) of this episode.
    """

    position: jax.Array
    length: jax.Array
    instance: Instance


def draw_length(key: Key, lengths: tuple[int, int]) -> jax.Array:
    """An int32 length whose logarithm is uniform between the bounds, both of which occur."""
    low, high = lengths
    if low == high:
        return jnp.full([], high, jnp.int32)
    edges = jnp.log(jnp.asarray([low, high + 1], jnp.float32))
    length = jnp.exp(jax.random.uniform(key, (), minval=edges[0], maxval=edges[1]))
    return jnp.clip(length.astype(jnp.int32), low, high)


def first_episodes(task: Task, keys: Key, lengths: tuple[int, int]) -> Episodes:
    """An episode at its beginning for each of `keys` `[tasks]`."""

    def one(key):
        sample_key, _, length_key = jax.random.split(key, 3)
        return Episodes(
            jnp.zeros([], jnp.int32),
            draw_length(length_key, lengths),
            task.sample(task.data, sample_key),
        )

    return jax.vmap(one)(keys)


def first_shares(key: Key, num_tasks: int) -> jax.Array:
    """Shares of their lengths, float32 `[num_tasks]`, after which the first episodes end.

    They are spread evenly, each at random in its part; the first task has the whole episode.
    """
    shift = jax.random.uniform(key, (num_tasks,), jnp.float32).at[0].set(0)
    return 1 - (jnp.arange(num_tasks, dtype=shift.dtype) + shift) / num_tasks


def cut_short(lengths: jax.Array, shares: jax.Array, unit: int) -> jax.Array:
    """Int32 `[tasks]`: those shares of the lengths, in whole units, at least one step."""
    units = (lengths // unit).astype(shares.dtype)
    cut = jnp.ceil(shares * units).astype(jnp.int32) * unit
    return jnp.maximum(cut, 1)


def check_lengths(episode_length: Any) -> tuple[int, int]:
    """Bounds `(low, high)`, both ends included, of episode lengths given as one or as two numbers.

    Raises:
        ValueError: for anything but one positive integer or two in order.
    """
    if not isinstance(episode_length, tuple | list):
        length = check_positive_int("episode_length", episode_length)
        return length, length
    if len(episode_length) == 2:
        low, high = (check_positive_int("episode_length", n) for n in episode_length)
        if low <= high:
            return low, high
    raise ValueError(
        "episode_length must be a positive integer or bounds (low, high) of lengths to be drawn, "
        f"got {short(episode_length)}."
    )


def whole_windows(episode_length: Any, unroll_length: int) -> tuple[int, int]:
    """Bounds of the lengths of episodes that are made of whole windows.

    Raises:
        ValueError: for what is no length, or one that windows do not fill.
    """
    lengths = check_lengths(episode_length)
    if not any(length % unroll_length for length in lengths):
        return lengths
    told = f"episode_length={short(episode_length)}"
    if lengths[0] == lengths[1]:
        raise ValueError(
            f"unroll_length={unroll_length} does not divide {told}; choose windows that fill the "
            "episode exactly (episodes of truncated_bptt may end inside windows where stagger=True "
            "spreads the tasks, or where lengths are drawn)."
        )
    low = -(-lengths[0] // unroll_length) * unroll_length
    high = max(low, lengths[1] // unroll_length * unroll_length)
    raise ValueError(
        f"unroll_length={unroll_length} does not divide both bounds of {told}, and "
        f"these episodes are whole windows; take ({low}, {high}), or another estimator, "
        "whose episodes may end inside a window."
    )
