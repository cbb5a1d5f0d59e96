"""Newton-Schulz: a matrix with its singular values near one, by products of matrices alone.

The step of Muon (Jordan et al. 2024), which Celo2 and `nominal` can take too.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from l2ljax.optimizers.roots import root

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the polynomial of degree 5 of Muon (Jordan et al. 2024), as Optax's: values end in [0.7, 1.2].
"""

OBLONG = 2
"""Columns a row from which the small side's products are cheaper: in theory 30 / 16."""

ROUND = 5
"""Iterations on one Gram matrix, whose error of rounding grows twelvefold in each."""


def newton_schulz(
    x: jax.Array, num_iterations: int = 5, coefficients: Sequence[float] = COEFFICIENTS
) -> jax.Array:
    """Singular values near 1, singular vectors as they are: x -> about U V^T.

    x / ||x||_F, then `num_iterations` times a x + (b A + c A^2) x with A = x x^T. The last two axes
    are the matrix; others are a batch. A matrix with more rows than columns is transposed for it,
    and one that is sharded explicitly is gathered for it and split again. All factors are
    polynomials of the first A, so on a CPU, of a matrix twice as long as wide or longer, only they
    are iterated, and multiplied with it once. (That takes full precision, which other platforms
    have at a price.)

    Args:
        x: `[..., rows, columns]` float32.
        num_iterations: of the polynomial.
        coefficients: (a, b, c).

    Example:
        >>> x = newton_schulz(jnp.diag(jnp.array([3.0, 0.5])))
        >>> bool(((x.diagonal() > 0.6) & (x.diagonal() < 1.3)).all())
        True
    """
    sharding = jax.typeof(x).sharding
    spec = [*sharding.spec, *[None] * x.ndim][: x.ndim]
    is_split = spec[-2:] != [None, None]  # explicitly; else the compiler decides
    if is_split:
        x = jax.sharding.reshard(x, P(*spec[:-2], None, None))
    is_tall = x.shape[-2] > x.shape[-1]
    x = jnp.swapaxes(x, -1, -2) if is_tall else x
    x = x / (root(jnp.sum(x * x, axis=(-2, -1), keepdims=True)) + 1e-8)
    said = {"num_iterations": num_iterations, "coefficients": coefficients}
    iterated, by_factor = (functools.partial(way, **said) for way in (_iterated, _by_factor))
    if x.shape[-1] < OBLONG * x.shape[-2]:
        x = iterated(x)
    else:
        x = jax.lax.platform_dependent(x, cpu=by_factor, default=iterated)
    x = jnp.swapaxes(x, -1, -2) if is_tall else x
    return jax.sharding.reshard(x, P(*spec)) if is_split else x


def _iterated(x: jax.Array, num_iterations: int, coefficients: Sequence[float]) -> jax.Array:
    a, b, c = coefficients

    def iterate(_: Any, x: jax.Array) -> jax.Array:
        gram = x @ jnp.swapaxes(x, -1, -2)
        return a * x + (b * gram + c * (gram @ gram)) @ x

    # A loop, not unrolled: the program stays small for trees of many matrices.
    return jax.lax.fori_loop(0, num_iterations, iterate, x)


def _by_factor(x: jax.Array, num_iterations: int, coefficients: Sequence[float]) -> jax.Array:
    for begun in range(0, num_iterations, ROUND):
        x = _factor(x, min(ROUND, num_iterations - begun), coefficients) @ x
    return x


def _factor(x: jax.Array, num_iterations: int, coefficients: Sequence[float]) -> jax.Array:
    """What the iterations multiply `x` by, `[..., rows, rows]`.

    With q = a + b A + c A^2 an iteration takes x to q x and A to q A q; all of them commute. In
    full precision, as a small value's error grows with it.
    """
    a, b, c = coefficients

    def product(left: jax.Array, right: jax.Array) -> jax.Array:
        return jnp.matmul(left, right, precision="highest")

    def polynomial(gram: jax.Array) -> jax.Array:
        return a * jnp.eye(gram.shape[-1], dtype=x.dtype) + b * gram + c * product(gram, gram)

    def iterate(_: Any, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        factor, gram, q = carry
        gram = product(q, product(gram, q))
        q = polynomial(gram)
        return product(q, factor), gram, q

    gram = product(x, jnp.swapaxes(x, -1, -2))
    q = polynomial(gram)
    return jax.lax.fori_loop(0, num_iterations - 1, iterate, (q, gram, q))[0]
