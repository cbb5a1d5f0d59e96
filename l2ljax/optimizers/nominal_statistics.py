"""What `nominal` sees of each tensor: numbers of order 1 without a scale of the gradient's own.

All tensors' numbers stand in one table `[tensors, features]`, so that the network that reads them
runs once for all.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from l2ljax.optimizers.roots import root

MEMORY_DECAY = 0.95
"""Of the running averages of how well gradients agree with momenta."""

TIMES = (10.0, 100.0)
"""Steps around which the network can tell early from late."""

ALONE = 0.9
"""A tensor of more than two axes that has this share of all numbers is itself what is sought."""

LARGEST = 1e38
"""Mean squares are told up to here: a network that reads an infinite one says NaN."""

HORIZON_FEATURES = 3
"""So many more where `num_steps` is given."""


def num_features(num_momenta: int, horizon: bool, from_start: bool = False) -> int:
    """Columns of the table."""
    always = 3 * num_momenta + 1 + 6 + 2 + 1 + len(TIMES)
    return always + HORIZON_FEATURES * horizon + 2 * from_start


def num_remembered(num_momenta: int, from_start: bool = False) -> int:
    """Columns of the memory: an agreement for each momentum, the last size and the drift.

    And, with `from_start`, the sizes of the tensor and of all parameters at the first update.
    """
    return num_momenta + 2 + 2 * from_start


def power(x: jax.Array) -> jax.Array:
    """Mean square, 0 of nothing."""
    return jnp.mean(jnp.square(x)) if x.size else jnp.float32(0)


def agreements(normalised: Sequence[jax.Array]) -> jax.Array:
    """Cosines between the gradient (the last of `normalised`) and the momenta: `[momenta]`.

    Below 0 the steps overshoot; near 1 they could be longer; noise alone gives values near 0.
    """
    *momenta, now = normalised
    if not now.size:
        return jnp.zeros(len(momenta), jnp.float32)
    return jnp.stack(
        [jnp.mean(now * m) / jnp.sqrt((power(now) + 1e-12) * (power(m) + 1e-12)) for m in momenta]
    )


def magnitude(mean_square: jax.Array) -> jax.Array:
    """A third of the logarithm of a root mean square, which may be 0 or beyond float32."""
    return jnp.log(root(jnp.minimum(mean_square, LARGEST)) + 1e-4) / 3


def tensor_table(
    params: Sequence[jax.Array],
    normalised: Sequence[Sequence[jax.Array]],
    memory: jax.Array,
    t: jax.Array,
    known: jax.Array,
    num_steps: int | jax.Array | None,
    alone: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """What is remembered with this step's agreements, and the table `[tensors, num_features]`.

    Args:
        params: tensors, float32.
        normalised: of each, momenta over the root of the second moment, and the gradient likewise.
        memory: `[tensors, num_remembered]`, from before this step.
        t: updates made, this one included; float32.
        known: the time that the network is told.
        num_steps: of the training, if it is known.
        alone: see `nominal`.
    """
    now = jnp.stack([agreements(n) for n in normalised])
    momenta = now.shape[1]
    averaged = MEMORY_DECAY * memory[:, :momenta] + (1 - MEMORY_DECAY) * now
    seen = memory.at[:, :momenta].set(averaged)
    size = sum(p.size for p in params)
    whole = jnp.stack([power(p) * (p.size / max(size, 1)) for p in params]).sum()
    if memory.shape[1] > num_remembered(momenta):
        of_each = jnp.stack([magnitude(power(p)) for p in params])
        begun = jnp.stack([of_each, jnp.full_like(of_each, magnitude(whole))], axis=1)
        first = num_remembered(momenta)
        seen = seen.at[:, first:].set(jnp.where(t == 1, begun, memory[:, first:]))
    rows = [
        tensor_row(p, n, seen[i], now[i], t, known, whole, num_steps, size if alone else None)
        for i, (p, n) in enumerate(zip(params, normalised, strict=True))
    ]
    return seen, jnp.stack(rows)


def tensor_row(
    param: jax.Array,
    normalised: Sequence[jax.Array],
    memory: jax.Array,
    now: jax.Array,
    made: jax.Array,
    t: jax.Array,
    whole: jax.Array,
    num_steps: int | jax.Array | None,
    beside: int | None = None,
) -> jax.Array:
    """One tensor's row of the table, `[num_features]`.

    Args:
        param: the parameter, float32.
        normalised: momenta over the root of the second moment, and the gradient likewise.
        memory: `[num_remembered]`, agreements averaged up to this step, last size, drift, and the
            sizes at the start where they are remembered.
        now: the agreements of this step.
        made: updates made, this one included; float32.
        t: the time that the network is told, at most that.
        whole: mean square of all parameters.
        num_steps: of the training, if it is known.
        beside: how many numbers all parameters have, where a tensor is told whether it is `ALONE`
            among them in place of how many it has.
    """
    averaged, rest = jnp.split(memory, [len(now)])
    averaged, (size, drift), begun = averaged / (1 - MEMORY_DECAY**made), rest[:2], rest[2:]
    powers = jnp.stack([jnp.log(power(n) + 1e-8) / 4 for n in normalised])
    fan_in = param.size // param.shape[-1] if param.ndim > 1 and param.size else 1
    held = math.log(max(param.size, 1)) / 8
    if beside is not None:
        held = param.ndim > 2 and param.size >= ALONE * beside
    shape = [
        magnitude(power(param)),
        magnitude(whole),
        jnp.float32(math.log(fan_in) / 4),
        jnp.float32(held),
        jnp.float32(param.ndim > 1),
        jnp.float32(param.ndim > 2),
    ]
    times = [jnp.log(t) / 8, *(jnp.tanh(jnp.log(t / tau)) for tau in TIMES)]
    if num_steps is not None:
        done = t / num_steps
        times += [done, jnp.tanh(10 * (done - 0.8)), jnp.log(1.02 - jnp.minimum(done, 1.0)) / 4]
    return jnp.concatenate([powers, averaged, now, jnp.stack([*shape, size, drift, *times]), begun])
