"""The directions of `nominal`: a mixture of momenta, as Adam has it, SGD's and Muon's.

Each is of Adam's size, so that a mixture of them is as trusted as any one.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from l2ljax.optimizers.newton_schulz import newton_schulz
from l2ljax.optimizers.roots import root

DECAYS = (0.5, 0.9, 0.99)
SECOND_DECAY = 0.999
EPSILON = 1e-8
MAIN = DECAYS.index(0.9)
"""The momentum that a fresh network has nearly all of its mixture on."""

OTHERS = ("tensor", "orthogonal", "orthogonal_adam")
"""Names of directions beside Adam's, see `nominal`."""

ORTHOGONAL_RMS = 0.12
"""Root mean square of an orthogonalised direction: below Adam's, which is 0.2 to 0.4 where
gradients are noisy (Liu et al. 2025, arXiv:2502.16982), as it moves a matrix in all its directions
at once."""


def normalised_by_element(
    t: jax.Array, gradient: jax.Array, second: jax.Array, *momenta: jax.Array
) -> list[jax.Array]:
    """Momenta over the root of the second moment, corrected for their start; the gradient last."""
    size = root(second / (1 - SECOND_DECAY**t)) + EPSILON
    return [m / size for m in [*_corrected(t, momenta), gradient]]


def mixed(
    names: Sequence[str],
    shares: jax.Array,
    weights: jax.Array,
    t: jax.Array,
    normalised: Sequence[jax.Array],
    gradient: jax.Array,
    second: jax.Array,
    *momenta: jax.Array,
) -> jax.Array:
    """The direction of one tensor, float32, uphill.

    Args:
        names: of directions beside Adam's.
        shares: `[momenta + 1]`, of the momenta and the gradient, in all directions alike.
        weights: `[1 + len(names)]`, of Adam's direction and the others.
        t: updates made, this one included; float32.
        normalised: what `normalised_by_element` returns for the same tensor.
        gradient, second, momenta: of the tensor, `[*shape]` float32.

    Returns:
        `[*shape]`.
    """
    adam = jnp.asarray(sum(shares[k] * n for k, n in enumerate(normalised)))
    if not names:
        return adam
    power = jnp.mean(second / (1 - SECOND_DECAY**t)) if second.size else jnp.float32(0)
    raw = sum(shares[k] * m for k, m in enumerate([*_corrected(t, momenta), gradient]))
    tensor = raw / (root(power) + EPSILON)
    found = {"tensor": tensor, "orthogonal": adam, "orthogonal_adam": adam}
    sources = {"orthogonal": tensor, "orthogonal_adam": adam}
    sources = {name: x for name, x in sources.items() if name in names}
    if sources and _is_matrix(gradient):
        found |= zip(sources, _orthogonal(jnp.stack(list(sources.values()))), strict=True)
    return weights[0] * adam + sum(weights[1 + j] * found[name] for j, name in enumerate(names))


def _is_matrix(x):
    return x.ndim > 1 and min(x.size // max(x.shape[-1], 1), x.shape[-1]) > 1


def _corrected(t, momenta):
    return [m / (1 - b**t) for b, m in zip(DECAYS, momenta, strict=True)]


def _orthogonal(x: jax.Array) -> jax.Array:
    """Matrices `[n, ..., columns]` with singular values brought near one value: of one size."""
    matrices = newton_schulz(x if x.ndim == 3 else x.reshape(x.shape[0], -1, x.shape[-1]))
    power = jnp.mean(jnp.square(matrices), axis=(1, 2), keepdims=True)
    return (matrices * (ORTHOGONAL_RMS / (root(power) + EPSILON))).reshape(x.shape)
