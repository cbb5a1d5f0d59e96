"""Whether `nominal`'s gradients are noise alone, alike in all coordinates, and smaller steps if so.

An estimate by one random direction, of an evolution strategy (Salimans et al. 2017,
arXiv:1703.03864) or a forward gradient (Baydin et al. 2022, arXiv:2202.08587), is a number times
white noise: second moments of all parameters are alike, of whatever tensor, and momenta are
what noise leaves of them. Gradients by backpropagation differ between coordinates by far, also
where they are mostly noise of a minibatch.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from l2ljax.base import PyTree
from l2ljax.optimizers.nominal_directions import DECAYS, SECOND_DECAY

ALIKE = 0.98, 0.99
"""From where to where second moments are taken as alike: by (mean root)^2 / mean, 1 if all are the
same. Of one random direction a step it is 1 - 1.5 (1 - b) / (1 + b) at last, with b = 0.999, and
0.995 after 300 steps; on training tasks it was 0.993 to 0.998 then, and without 0.97 at most."""

NOISE = 0.01, 0.02
"""Power of the slowest momentum over that of gradients, below which it is taken for noise: white
noise leaves (1 - b) / (1 + b), 0.005 with b = 0.99."""

FEWEST = 100
"""Parameters: fewer can be alike by chance."""

BEGUN = 100
"""Step at which gradients are as large as they are to be compared with."""

POWER = 2.0
"""Of how many times too large they are."""

TINY = 1e-30


def calmed(
    limit: float, t: jax.Array, second: PyTree, momentum: PyTree, begun: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Factor of sizes that makes them smaller where white noise has grown by more than `limit`.

    Noise moves parameters away from where they began, for as long as it does; in a deep network
    that multiplies from layer to layer, and gradients grow with it, which normalised steps would
    not heed.

    Args:
        limit: how many times as large as at step `BEGUN` gradients may be.
        t: updates made, this one included; float32.
        second: moments of all parameters, float32, not corrected for their start at 0.
        momentum: the slowest one, likewise.
        begun: mean square of gradients up to step `BEGUN`, float32 scalar.

    Returns:
        float32 scalar, above 0 and at most 1: exactly 1 where gradients tell parameters apart;
        and `begun` for the next step, float32 scalar.

    Example:
        >>> moments, momenta, begun = jnp.full((20, 20), 16.0), jnp.zeros((20, 20)), jnp.float32(1)
        >>> factor, _ = calmed(2.0, jnp.float32(9999), moments, momenta, begun)
        >>> f"{factor:.2f}"
        '0.25'
    """
    second, momentum = jax.lax.stop_gradient((second, momentum))  # roots of 0 have no slope
    unbias = (1 - SECOND_DECAY**t) / (1 - DECAYS[-1] ** t) ** 2
    now = mean(second, jnp.asarray) / (1 - SECOND_DECAY**t)
    begun = jnp.where((t <= BEGUN) | (begun == 0), now, begun)
    grown = now / (limit**2 * begun + TINY)
    factor = jnp.maximum(grown, 1) ** (-POWER / 2 * white(second, momentum, unbias))
    return jnp.where(jnp.isfinite(factor), factor, 1), begun  # moments can be too large to add up


def mean(tree: PyTree, function: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Of a function of all numbers; 0 of none."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.size]
    size = sum(leaf.size for leaf in leaves)
    return jnp.asarray(sum(jnp.sum(function(leaf)) for leaf in leaves) / max(size, 1), jnp.float32)


def white(second: PyTree, momentum: PyTree, unbias: jax.Array) -> jax.Array:
    """From 0, gradients that tell parameters apart, to 1, white noise.

    Args:
        second: moments of all parameters, float32; of any scale.
        momentum: the slowest one, likewise.
        unbias: what the square of the momentum is to be multiplied by over what `second` is.

    Returns:
        float32 scalar; 0 where there are fewer than `FEWEST` parameters.

    Example:
        >>> moments, momenta = jnp.ones((20, 20)), jnp.full((20, 20), 0.07)
        >>> float(white(moments, momenta, jnp.float32(1)))
        1.0
        >>> float(white(moments.at[:10].set(9), momenta, jnp.float32(1)))
        0.0
    """
    if sum(leaf.size for leaf in jax.tree.leaves(second)) < FEWEST:
        return jnp.float32(0)
    power = mean(second, jnp.asarray) + TINY
    alike = (mean(second, jnp.sqrt) ** 2 / power - ALIKE[0]) / (ALIKE[1] - ALIKE[0])
    left = mean(momentum, jnp.square) * unbias / power
    noise = (NOISE[1] - left) / (NOISE[1] - NOISE[0])
    return jnp.clip(alike, 0, 1) * jnp.clip(noise, 0, 1)
