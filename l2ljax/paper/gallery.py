"""Pictures that optimizers have painted after a number of steps, as 8-bit colours."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from l2ljax.base import Key, Task
from l2ljax.checks import check_sizes
from l2ljax.tasks.minibatch import as_float
from l2ljax.unrolling import init_optimizee, unroll


def paint(
    task: Task, tx: optax.GradientTransformation, key: Key, steps: Sequence[int]
) -> np.ndarray:
    """Paints every photograph of a `neural_art` task.

    Args:
        task: of `l2ljax.tasks.neural_art`.
        tx: any Optax transformation.
        key: draws the noise to start from, the same for equal keys.
        steps: numbers of inner steps to look after.

    Returns:
        uint8 `[photographs, len(steps), height, width, 3]`.

    Raises:
        ValueError: if `steps` are no positive integers.

    Example:
        >>> from l2ljax.tasks import neural_art
        >>> task = neural_art(jnp.ones((2, 8, 8, 3)), jnp.zeros((8, 8, 3)))
        >>> paint(task, optax.adam(0.1), jax.random.key(0), (1, 3)).shape
        (2, 2, 8, 8, 3)
    """
    return as_uint8(_paint(task, tx, key, check_sizes("steps", steps)))


def as_uint8(pictures: jax.Array) -> np.ndarray:
    """Pictures for people: 0 black and 255 white, what lies beyond cut off.

    Example:
        >>> as_uint8(jnp.array([-1.0, 0.5, 3.0])).tolist()
        [0, 128, 255]
    """
    scaled = 255 * np.asarray(as_float(pictures), np.float64)
    return np.round(np.clip(scaled, 0, 255)).astype(np.uint8)


@functools.partial(jax.jit, static_argnums=(1, 3))
def _paint(task: Task, tx: optax.GradientTransformation, key: Key, steps: tuple[int, ...]):
    def one(photograph):
        alone = dataclasses.replace(task, data=task.data._replace(contents=photograph[None]))

        def step(state, step_key):
            state, _ = unroll(alone, tx, state, step_key, 1)
            return state, state.params

        keys = jax.random.split(key, max(steps) + 1)
        _, pixels = jax.lax.scan(step, init_optimizee(alone, tx, keys[0]), keys[1:])
        return pixels[jnp.array(steps) - 1]

    return jax.lax.map(one, task.data.contents)
