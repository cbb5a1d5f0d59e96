"""Which direction ends lowest on training tasks, each at its own best rate?

    python benchmarks/quality/directions.py --tasks=mnist14-sigmoid-20,digits-autoencoder

Momentum of decay 0.9, with Nesterov's look ahead except for Adam, 1,000 steps, the rate along a
line to 0, three optimizees. Directions of matrices are measured in units of their root mean square
where they have no size of their own; vectors have Adam's. Prints geometric means of the final
losses relative to Adam's, and the rate.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from l2ljax.base import Task
from l2ljax.evaluation.aggregate import final_losses
from l2ljax.tasks import suite
from l2ljax.unrolling import init_optimizee, unroll

TASKS = flags.DEFINE_list(
    "tasks",
    [
        "mnist14-sigmoid-20",
        "mnist8-relu-32",
        "digits-autoencoder",
        "digits-convnet",
        "bytes-transformer-16",
    ],
    "Training tasks of the suite.",
)
STEPS = flags.DEFINE_integer("steps", 1000, "Of each run.")
RATES = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2)
MOMENTUM, SECOND, EPSILON = 0.9, 0.999, 1e-8
Direction = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def unit(x: jax.Array) -> jax.Array:
    """At a root mean square of 1."""
    return x / (jnp.sqrt(jnp.mean(jnp.square(x))) + 1e-12)


def orthogonal(x: jax.Array) -> jax.Array:
    """By Optax's Newton-Schulz iteration; vectors, and single rows or columns, stay as they are."""
    rows = x.size // x.shape[-1] if x.ndim > 1 else 1
    if min(rows, x.shape[-1] if x.ndim else 1) < 2:
        return x
    matrix: Any = {"w": x.reshape(rows, -1)}
    named = {"w": optax.contrib.MuonDimensionNumbers()}
    tx = optax.contrib.scale_by_muon(beta=0.0, nesterov=False, weight_dimension_numbers=named)
    updates: Any = tx.update(matrix, tx.init(matrix), matrix)[0]
    return unit(updates["w"].reshape(x.shape))


def over_rows_and_columns(momentum: jax.Array, second: jax.Array) -> jax.Array:
    """Adafactor's: the second moment is the product of its rows' and columns' means."""
    if momentum.ndim < 2:
        return momentum / (jnp.sqrt(second) + EPSILON)
    matrix = second.reshape(-1, second.shape[-1])
    product = matrix.mean(1, keepdims=True) * matrix.mean(0, keepdims=True)
    root = jnp.sqrt(product / (matrix.mean() + 1e-30)).reshape(momentum.shape)
    return momentum / (root + EPSILON)


DIRECTIONS: dict[str, Direction] = {
    "adam": lambda momentum, nesterov, second: momentum / (jnp.sqrt(second) + EPSILON),
    "nadam": lambda momentum, nesterov, second: nesterov / (jnp.sqrt(second) + EPSILON),
    "tensor": lambda momentum, nesterov, second: nesterov / (jnp.sqrt(second.mean()) + EPSILON),
    "sign": lambda momentum, nesterov, second: jnp.sign(nesterov),
    "adafactor": lambda momentum, nesterov, second: over_rows_and_columns(nesterov, second),
    "orthogonal": lambda momentum, nesterov, second: orthogonal(nesterov),
    "orthogonal_adam": lambda momentum, nesterov, second: orthogonal(
        nesterov / (jnp.sqrt(second) + EPSILON)
    ),
}
"""Name -> direction of (momentum, Nesterov's, second moment), corrected for their start."""


def along_a_line(name: str, rate: Any, num_steps: int) -> optax.GradientTransformation:
    """The optimizer whose direction this is; that of a vector is Adam's."""

    def init(params):
        zeros = optax.tree.zeros_like(params)
        return jnp.zeros([], jnp.float32), zeros, zeros

    def update(updates, state, params=None):
        del params
        count, momenta, seconds = state
        t = count + 1
        momenta = optax.tree.update_moment(updates, momenta, MOMENTUM, 1)
        seconds = optax.tree.update_moment(updates, seconds, SECOND, 2)
        size = rate * jnp.maximum(1 - t / num_steps, 0)

        def one(gradient, momentum, second):
            momentum /= 1 - MOMENTUM**t
            nesterov = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
            made = "adam" if gradient.ndim < 2 and name.startswith("orthogonal") else name
            return -size * DIRECTIONS[made](momentum, nesterov, second / (1 - SECOND**t))

        return jax.tree.map(one, updates, momenta, seconds), (t, momenta, seconds)

    return optax.GradientTransformation(init, update)


def ends(task: Task, name: str, num_steps: int, num_tasks: int = 3) -> np.ndarray:
    """Final losses `[rates, tasks]`."""

    def one(rate, key):
        tx = along_a_line(name, rate, num_steps)
        init_key, run_key = jax.random.split(key)
        return unroll(task, tx, init_optimizee(task, tx, init_key), run_key, num_steps)[1]

    runs = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
    losses = runs(jnp.array(RATES), jax.random.split(jax.random.key(77), num_tasks))
    return np.stack([final_losses(np.asarray(each, np.float64)) for each in losses])


def main(argv: list[str]) -> None:
    del argv
    for task in TASKS.value:
        first = None
        for name in DIRECTIONS:
            found = ends(suite.tasks("train")[task], name, STEPS.value)
            found = np.where(np.isfinite(found), found, np.inf)
            mean = np.exp(np.log(found + 1e-9).mean(axis=1))
            first = mean.min() if first is None else first
            rate = RATES[int(mean.argmin())]
            print(f"{task} {name}: {mean.min() / first:.3f} at {rate:g}", flush=True)


if __name__ == "__main__":
    app.run(main)
