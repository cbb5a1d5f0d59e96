"""What a guard sees of the loss: averages, their noise, and when they have risen too far."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class LossWatch(NamedTuple):
    """What the loss test remembers: float32 scalars, and two int32 ones.

    Attributes:
        average: of the finite losses so far, exponentially weighted; a loss that stays the same is
            its own average to the last bit, or rounding would be taken for a rise.
        noise: of their absolute differences from step to step, likewise.
        last: the newest loss.
        seen: int32, losses so far.
        best: least average since the learned optimizer took over.
        hold: int32, steps for which the fallback still has control.
    """

    average: jax.Array
    noise: jax.Array
    last: jax.Array
    seen: jax.Array
    best: jax.Array
    hold: jax.Array


def fresh_watch() -> LossWatch:
    """Before the first loss."""
    return LossWatch(
        average=jnp.zeros([], jnp.float32),
        noise=jnp.zeros([], jnp.float32),
        last=jnp.zeros([], jnp.float32),
        seen=jnp.zeros([], jnp.int32),
        best=jnp.full([], jnp.inf, jnp.float32),
        hold=jnp.zeros([], jnp.int32),
    )


def watch_loss(
    watch: LossWatch,
    value: Any,
    failures: jax.Array,
    decay: float,
    tolerance: float,
    hold: int,
) -> tuple[jax.Array, jax.Array, LossWatch]:
    """The loss test of `guard`, for one step.

    Args:
        watch: what it remembers.
        value: scalar, the loss; `None`: nothing is watched at this step.
        failures: int32, how many there were.
        decay: see `guard`.
        tolerance: see `guard`.
        hold: see `guard`.

    Returns:
        whether the learned optimizer fails now, whether the average is at its best, and what is
        remembered next.
    """
    if value is None:
        return jnp.bool(False), jnp.bool(False), watch
    value = jnp.asarray(value, jnp.float32)
    fine = jnp.isfinite(value)
    value = jnp.where(fine, value, watch.last)
    in_control = watch.hold == 0

    def moved(average: jax.Array, value: jax.Array, number: jax.Array) -> jax.Array:
        """The average with its newest value, of `number` with weights decay^age."""
        weights = jnp.maximum(1 - decay ** number.astype(jnp.float32), 1 - decay)
        return average + jnp.where(number > 1, (1 - decay) / weights, 1) * (value - average)

    seen = add_if(watch.seen, fine)
    now = jnp.where(fine, moved(watch.average, value, seen), watch.average)
    change = jnp.abs(value - watch.last)
    noise = jnp.where(fine & (watch.seen > 0), moved(watch.noise, change, watch.seen), watch.noise)
    rise = tolerance * watch.noise
    warm = watch.seen >= max(2, 1 / (1 - decay))
    failed = in_control & (~fine | (warm & (now > watch.best + rise)))
    # While the fallback has control the best is what the learned optimizer will find.
    improved = fine & ~failed & (~in_control | (now < watch.best))
    held = hold * 2.0 ** jnp.minimum(failures, 30).astype(jnp.float32)
    held = jnp.minimum(held, 2.0**30).astype(jnp.int32)
    return (
        failed,
        improved,
        LossWatch(
            average=now,
            noise=noise,
            last=jnp.where(fine, value, watch.last),
            seen=seen,
            best=jnp.where(improved, now, watch.best),
            hold=jnp.where(failed, held, watch.hold),
        ),
    )


def add_if(count: jax.Array, condition: jax.Array) -> jax.Array:
    """`count`, one more where the condition holds (it stops at the largest int32)."""
    return jnp.where(condition, jnp.asarray(optax.safe_increment(count)), count)
