"""Learned functions of the step: constant, piecewise linear, or a small network.

A schedule moves several named numbers at once; meta-parameters are a flat dict of arrays.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.base import Key

Arrays = dict[str, jax.Array]

LOG_HORIZON = 100_000
"""Steps after which a schedule over log(1 + step) holds its value."""

TIME_CENTRES = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
"""Where the network's inputs tanh(10 (x - c)) change sign (after Metz et al. 2022, 2211.09760)."""


class Schedule(NamedTuple):
    """Named numbers as functions of the step.

    Attributes:
        init: (key, name -> number) -> meta-parameters of a schedule that holds these numbers.
        at: (meta-parameters, int32 step) -> name -> number.
    """

    init: Callable[[Key, Arrays], Arrays]
    at: Callable[[Arrays, jax.Array], Arrays]


def constant(names: Sequence[str]) -> Schedule:
    """Numbers that do not depend on the step; `names` are of no matter."""
    del names
    return Schedule(lambda key, numbers: dict(numbers), lambda meta_params, step: meta_params)


def piecewise(names: Sequence[str], *, num_steps: int | None, num_knots: int) -> Schedule:
    """Linear between `num_knots` learned values, evenly spaced over `progress`.

    Example:
        >>> ramp = piecewise(["rate"], num_steps=100, num_knots=3)
        >>> float(ramp.at({"rate": jnp.array([0.0, 1.0, 5.0])}, jnp.int32(75))["rate"])
        3.0
    """

    def init(key: Key, numbers: Arrays) -> Arrays:
        del key
        return {
            name: jnp.full(num_knots, number) if name in names else number
            for name, number in numbers.items()
        }

    def at(meta_params: Arrays, step: jax.Array) -> Arrays:
        position = progress(step, num_steps) * (num_knots - 1)
        # Hat functions: a product with weights has a cheap derivative, an indexed read has not.
        weights = jnp.maximum(0, 1 - jnp.abs(position - np.arange(num_knots, dtype=np.float32)))
        return {
            name: weights @ array if name in names else array for name, array in meta_params.items()
        }

    return Schedule(init, at)


def network(names: Sequence[str], *, num_steps: int | None, hidden_size: int) -> Schedule:
    """A constant and the output of one network of the step, tanh units and one readout a name."""

    def init(key: Key, numbers: Arrays) -> Arrays:
        fan_in = len(TIME_CENTRES)
        kernel = jax.random.normal(key, (hidden_size, fan_in), jnp.float32) / fan_in**0.5
        readouts = {f"schedule/{name}": jnp.zeros(hidden_size, jnp.float32) for name in names}
        layer = {"schedule/kernel": kernel, "schedule/bias": jnp.zeros(hidden_size, jnp.float32)}
        return dict(numbers) | layer | readouts

    def at(meta_params: Arrays, step: jax.Array) -> Arrays:
        centres = np.asarray(TIME_CENTRES, np.float32)
        inputs = jnp.tanh(10 * (progress(step, num_steps) - centres))
        hidden = meta_params["schedule/kernel"] @ inputs + meta_params["schedule/bias"]
        hidden = jnp.tanh(hidden)
        return {
            name: number + meta_params[f"schedule/{name}"] @ hidden if name in names else number
            for name, number in meta_params.items()
            if not name.startswith("schedule/")
        }

    return Schedule(init, at)


def progress(step: jax.Array, num_steps: int | None) -> jax.Array:
    """How much of training is over, float32 from 0 to 1; without `num_steps` on a log scale.

    Example:
        >>> float(progress(jnp.int32(25), 100)), float(progress(jnp.int32(250), 100))
        (0.25, 1.0)
    """
    step = step.astype(jnp.float32)
    if num_steps is None:
        return jnp.minimum(1, jnp.log1p(step) / np.float32(np.log1p(LOG_HORIZON)))
    return jnp.minimum(1, step / num_steps)
