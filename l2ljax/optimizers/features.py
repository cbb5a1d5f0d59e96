"""What learned optimizers compute from a gradient before their network: pure functions, no state.

Moments at several decays, Adafactor's factored second moments (Shazeer & Stern 2018,
arXiv:1804.04235), normalisation over a tensor, features of time. The rules of Metz et al. (2022,
arXiv:2203.11860), VeLO (2022, arXiv:2211.09760) and Celo (2025) are made of these.

Several decays stack on a new first axis, and a factored moment keeps the axis it was averaged over
with length 1. So whatever belongs to a parameter `[*shape]` has `ndim` axes like it last, is
broadcast against it without a reshape, and is sharded like it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class FactoredMoments(NamedTuple):
    """Running averages of the squared gradient over rows and over columns of one parameter.

    With `(d1, d0) = factored_axes(shape)`, the largest axis being `d0`:

    Attributes:
        row: `[num_decays, *shape]` with length 1 at `d0`; for a vector or a scalar, which cannot be
            factored, the average of each coordinate's own square, `[num_decays, *shape]`.
        column: `[num_decays, *shape]` with length 1 at `d1`; for a vector or a scalar all axes have
            length 1, and it is zero and without a use.
    """

    row: jax.Array
    column: jax.Array


def decay_column(decays: jax.typing.ArrayLike, ndim: int) -> jax.Array:
    """`[num_decays]` -> `[num_decays, 1, ..., 1]`, to multiply something `[num_decays, *shape]`.

    Example:
        >>> decay_column([0.9, 0.99], 2).shape
        (2, 1, 1)
    """
    decays = jnp.asarray(decays, jnp.float32)
    return decays.reshape(*decays.shape, *[1] * ndim)


def zero_moments(param: jax.Array, num_decays: int) -> jax.Array:
    """Zeros `[num_decays, *param.shape]` in float32, sharded like `param` where it is sharded.

    Example:
        >>> zero_moments(jnp.ones((5, 4)), 3).shape
        (3, 5, 4)
    """
    zeros = jnp.zeros_like(param, dtype=jnp.float32)
    return jnp.broadcast_to(zeros, (num_decays, *zeros.shape))


def update_moments(moments: jax.Array, value: jax.Array, decays: jax.typing.ArrayLike) -> jax.Array:
    """Exponential moving averages, one a decay, without bias correction: m' = d m + (1 - d) x.

    Args:
        moments: `[num_decays, *shape]`.
        value: `[*shape]`: the gradient for first moments, its square for second moments.
        decays: `[num_decays]`.

    Example:
        >>> update_moments(jnp.zeros((2, 3)), jnp.ones(3), [0.5, 0.75])[:, 0].tolist()
        [0.5, 0.25]
    """
    decay = decay_column(decays, value.ndim)
    return decay * moments + (1 - decay) * value


def factored_axes(shape: Sequence[int]) -> tuple[int, int] | None:
    """The two largest axes `(d1, d0)`, `d0` the larger one; `None` for a vector or a scalar.

    Among axes of equal length the later one counts as the larger: a *stable* sort. The published
    code (`np.argsort` with its default, which is not stable) may swap the two for tensors of four
    and more axes with ties, depending on NumPy's version and the processor.

    Example:
        >>> factored_axes((3, 3, 512, 64)), factored_axes((7, 7)), factored_axes((9,))
        ((3, 2), (0, 1), None)
    """
    if len(shape) < 2:
        return None
    d1, d0 = np.argsort(shape, kind="stable")[-2:]
    return int(d1), int(d0)


def zero_factored_moments(param: jax.Array, num_decays: int) -> FactoredMoments:
    """All-zero `FactoredMoments` of one parameter, float32.

    Example:
        >>> moments = zero_factored_moments(jnp.ones((2, 5, 4)), 3)
        >>> moments.row.shape, moments.column.shape
        ((3, 2, 1, 4), (3, 2, 5, 1))
    """
    axes = factored_axes(param.shape)
    zeros = zero_moments(param, num_decays)
    if axes is None:
        return FactoredMoments(zeros, _reduce_axes(zeros, tuple(range(-param.ndim, 0))))
    d1, d0 = axes
    return FactoredMoments(
        _reduce_axes(zeros, (d0 - param.ndim,)), _reduce_axes(zeros, (d1 - param.ndim,))
    )


def update_factored_moments(
    moments: FactoredMoments, gradient: jax.Array, decays: jax.typing.ArrayLike
) -> FactoredMoments:
    """Moves the averages towards g^2 + 1e-30, averaged over rows and over columns.

    Args:
        moments: of this parameter.
        gradient: `[*shape]` float32.
        decays: `[num_decays]`.

    Example:
        >>> g = jnp.array([[1.0, 3.0, 0.0], [0.0, 0.0, 6.0]])
        >>> moments = update_factored_moments(zero_factored_moments(g, 1), g, [0.5])
        >>> moments.row.ravel().round().tolist()  # half of 10 / 3 and of 36 / 3
        [2.0, 6.0]
    """
    square = gradient * gradient + 1e-30
    axes = factored_axes(gradient.shape)
    if axes is None:
        # a new array made of the old one: the old state may be donated
        unused = jnp.copy(moments.column)
        return FactoredMoments(update_moments(moments.row, square, decays), unused)
    d1, d0 = axes
    return FactoredMoments(
        update_moments(moments.row, mean_over(square, (d0,)), decays),
        update_moments(moments.column, mean_over(square, (d1,)), decays),
    )


def factored_scales(moments: FactoredMoments, shape: Sequence[int]) -> tuple[jax.Array, jax.Array]:
    """The two factors whose product estimates 1 / sqrt(average of g^2) of each coordinate.

    1 / sqrt(row / mean(row)) and 1 / sqrt(column), with the small constants of the published rules
    (1e-9 on the mean, and 1e-9 as least value of either). For a vector or a scalar: 1 / sqrt(row +
    1e-9) and 1.

    Args:
        moments: of one parameter.
        shape: of that parameter.

    Returns:
        `[num_decays, ...]`, shapes as `moments.row` and `moments.column`.

    Example:
        >>> g = jnp.outer(jnp.array([1.0, 2.0]), jnp.array([1.0, 3.0, 0.5]))  # of rank one: exact
        >>> moments = update_factored_moments(zero_factored_moments(g, 1), g, [0.0])
        >>> row, column = factored_scales(moments, g.shape)
        >>> (g * row * column).round(3).tolist()
        [[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]]
    """
    row, column = moments
    axes = factored_axes(shape)
    if axes is None:
        return jax.lax.rsqrt(jnp.maximum(row + 1e-9, 1e-9)), jnp.ones_like(column)
    d1, _ = axes
    relative = row / (mean_over(row, (d1 + 1,)) + 1e-9)
    return jax.lax.rsqrt(jnp.maximum(relative, 1e-9)), jax.lax.rsqrt(jnp.maximum(column, 1e-9))


def rows_and_columns(moments: FactoredMoments, shape: Sequence[int]) -> tuple[jax.Array, jax.Array]:
    """What the features "row" and "column" are: for a vector or a scalar the same array twice."""
    if factored_axes(shape) is None:
        return moments.row, moments.row
    return moments.row, moments.column


def mean_over(x: jax.Array, axes: Sequence[int]) -> jax.Array:
    """The mean over `axes`, which stay with length 1; 0 where there is nothing to average.

    Example:
        >>> mean_over(jnp.array([[1.0, 3.0]]), (1,)).tolist()
        [[2.0]]
    """
    number = max(1, int(np.prod([x.shape[axis] for axis in axes])))
    return jnp.sum(x, axis=tuple(axes), keepdims=True) * (1 / number)


def rms_normalized(x: jax.Array, axes: Sequence[int], eps: float) -> jax.Array:
    """x / sqrt(mean of x^2 over `axes` + eps).

    Example:
        >>> rms_normalized(jnp.array([3.0, -3.0]), (0,), eps=0.0).tolist()
        [1.0, -1.0]
    """
    return x * jax.lax.rsqrt(mean_over(x * x, axes) + eps)


TIME_SCALES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)
"""In steps, of `time_features` (Metz et al. 2022)."""


def time_features(count: jax.Array, scales: Sequence[float] = TIME_SCALES) -> jax.Array:
    """tanh(t / scale - 1) for each scale: where a run stands, from its first step to 100,000.

    Args:
        count: int32 scalar [t], 0 at the first step.
        scales: in steps.

    Returns:
        `[len(scales)]` float32.

    Example:
        >>> bool(jnp.allclose(time_features(jnp.int32(10), (10.0, 5.0)), jnp.tanh(jnp.arange(2))))
        True
    """
    return jnp.tanh(jnp.asarray(count, jnp.float32) / jnp.asarray(scales, jnp.float32) - 1)


def _reduce_axes(zeros: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """All-zero `zeros` with length 1 at `axes`, sharded as it was at the others."""
    return jnp.sum(zeros, axis=axes, keepdims=True)
