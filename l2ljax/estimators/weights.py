"""How the meta-loss weighs the steps of an episode [w_t]."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.checks import short

Weights = Sequence[float] | np.ndarray | jax.Array | Callable[[np.ndarray], Sequence[float]]


def step_weights(weights: Weights | None, episode_length: int) -> tuple[float, ...]:
    """w_1 ... w_T as floats, checked: finite, >= 0, not all 0, `episode_length` of them."""
    if weights is None:
        return (1.0,) * episode_length
    if callable(weights):
        weights = weights(np.arange(1, episode_length + 1))
    try:
        array = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"weights must be numbers, got {short(weights)}.") from error
    if array.shape != (episode_length,):
        raise ValueError(
            f"weights must have one entry per inner step, shape ({episode_length},), "
            f"got shape {array.shape}."
        )
    if not (np.isfinite(array).all() and (array >= 0).all() and array.any()):
        raise ValueError(
            "weights must be finite, >= 0 and not all 0, got values from "
            f"{array.min()} to {array.max()}."
        )
    return tuple(array.tolist())


def stretched(weights: tuple[float, ...], positions: jax.Array, lengths: jax.Array) -> jax.Array:
    """The weights of steps in episodes shorter than T: those of the same shares of its length.

    Args:
        weights: w_1 ... w_T.
        positions: int32, of the steps in their episodes, from 1.
        lengths: int32, at most T, of those episodes; as `positions`, or to be broadcast.

    Returns:
        float32, w at ceil(position * T / length).

    Example:
        >>> stretched((1.0, 2.0, 3.0, 4.0), jnp.array([1, 2]), jnp.array(2)).tolist()
        [2.0, 4.0]
    """
    table = jnp.asarray(weights, jnp.float32)
    total = table.shape[0]
    if total**2 <= jnp.iinfo(jnp.int32).max:
        return table[-(-positions * total // lengths) - 1]
    # The products do not fit: their rest beside a guess does, which wraps around to what it is.
    guess = (positions.astype(jnp.float32) * total / lengths.astype(jnp.float32)).astype(jnp.int32)
    rest = guess * lengths - positions * total
    return table[guess - rest // lengths - 1]
