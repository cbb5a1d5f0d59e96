"""How the meta-loss weighs the steps of an episode [w_t]."""

from collections.abc import Callable, Sequence

import jax
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
