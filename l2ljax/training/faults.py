"""What meta-training does about numbers that are not finite: skip, go back, stop.

A meta-update whose meta-loss, meta-gradient or outcome is not finite is skipped. After
`max_consecutive_skips` of them in a row training goes back to the best meta-parameters, with a
fresh meta-optimizer and half the step; after `max_restores` of those, the next such row stops it.
All of it is decided inside the compiled step, from counters that checkpoints hold.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from l2ljax.base import PyTree
from l2ljax.checks import check_positive_int


class DivergenceError(FloatingPointError):
    """Meta-training was stopped, as its meta-gradients stayed not finite.

    Args:
        message: where it stopped and what was tried, in a sentence.
        result: as below.

    Attributes:
        result: the `MetaTrainResult` until then, with the best meta-parameters; or `None`.

    Example:
        with `train`, a function that calls `meta_train`:

        >>> def train():
        ...     raise DivergenceError("Meta-training stopped at meta-update 9.", {"best_update": 4})
        >>> try:
        ...     train()
        ... except DivergenceError as error:
        ...     print(error, error.result)
        Meta-training stopped at meta-update 9. {'best_update': 4}
    """

    def __init__(self, message: str = "", result: Any = None):
        super().__init__(message)
        self.result = result


class Limits(NamedTuple):
    """How many faults a run takes, see `meta_train`."""

    max_consecutive_skips: int = 10
    max_restores: int = 3


DEFAULT_LIMITS = Limits()


class Faults(NamedTuple):
    """What has gone wrong in a run so far.

    Attributes:
        skipped: int32 scalar, meta-updates skipped.
        streak: int32 scalar, how many in a row have just been.
        diverged: int32 scalar, optimizees that diverged and were started anew.
        restores: int32 scalar, times that training went back.
        step_scale: float32 scalar, what the meta-optimizer's updates are multiplied by.
        first: int32 `[3]`, where the last streak began: the meta-update, and the task of its batch
            that diverged first and the inner step of that (both -1 if none did).
    """

    skipped: jax.Array
    streak: jax.Array
    diverged: jax.Array
    restores: jax.Array
    step_scale: jax.Array
    first: jax.Array


def no_faults() -> Faults:
    """Those of a run that begins."""
    zero = jnp.zeros([], jnp.int32)
    return Faults(zero, zero, zero, zero, jnp.ones([], jnp.float32), jnp.full(3, -1, jnp.int32))


def check_limits(max_consecutive_skips: int, max_restores: int) -> Limits:
    """The limits as ints.

    Raises:
        ValueError: for a count that is no integer, or too small (1 skip, 0 restores).
    """
    return Limits(
        check_positive_int("max_consecutive_skips", max_consecutive_skips),
        check_positive_int("max_restores", max_restores, minimum=0),
    )


def is_finite(tree: PyTree) -> jax.Array:
    """Bool scalar: whether every number in `tree` is."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def stays_finite(new: PyTree, old: PyTree) -> jax.Array:
    """Bool scalar: whether no number that was finite in `old` is another kind in `new`.

    A meta-optimizer's state may begin with infinities (the best loss so far); one that overflows,
    as Adam's second moment does from 1.8e19 on, would hold those meta-parameters still for ever.
    """
    floats = [
        (jnp.isfinite(after) | ~jnp.isfinite(before)).all()
        for after, before in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True)
        if jnp.issubdtype(jnp.result_type(after), jnp.inexact)
    ]
    return jnp.stack([jnp.bool(True), *floats]).all()


def count_faults(
    faults: Faults, good: jax.Array, diverged_at: jax.Array, update: jax.Array, limits: Limits
) -> tuple[Faults, jax.Array]:
    """The faults after a meta-update, and whether to go back now.

    Args:
        faults: those before.
        good: bool scalar, whether the update is made.
        diverged_at: int32 `[num_tasks]`, the inner step at which each optimizee diverged, or -1.
        update: int32 scalar, the update's number, from 1.
        limits: of the run.
    """
    diverged = diverged_at >= 0
    task = jnp.argmin(jnp.where(diverged, diverged_at, jnp.iinfo(jnp.int32).max))
    begin = jnp.stack([update, jnp.where(diverged.any(), task, -1), diverged_at[task]])
    streak = jnp.where(good, 0, faults.streak + 1)
    restore = (streak >= limits.max_consecutive_skips) & (faults.restores < limits.max_restores)
    after = Faults(
        skipped=jnp.where(good, faults.skipped, faults.skipped + 1),
        streak=jnp.where(restore, 0, streak),
        diverged=faults.diverged + diverged.sum(),
        restores=jnp.where(restore, faults.restores + 1, faults.restores),
        step_scale=jnp.where(restore, faults.step_scale / 2, faults.step_scale),
        first=jnp.where(streak == 1, begin, faults.first),
    )
    return jax.tree.map(lambda new, old: new.astype(old.dtype), after, faults), restore


def given_up(faults: Faults, limits: Limits) -> jax.Array:
    """Bool scalar: whether training is at an end."""
    return (faults.streak >= limits.max_consecutive_skips) & (
        faults.restores >= limits.max_restores
    )


def why_given_up(faults: Faults, limits: Limits) -> str:
    """The sentence of the error."""
    update, task, step = (int(number) for number in faults.first)
    row = limits.max_consecutive_skips
    where = (
        f"optimizee {task} of the batch was the first to diverge, at inner step {step}"
        if task >= 0
        else "no optimizee diverged, but the meta-gradient or the updated meta-parameters did"
    )
    return (
        f"Meta-training stopped at meta-update {update + row - 1}: {row} meta-updates in a row "
        f"were not finite, after {int(faults.restores)} returns to the best state with half the "
        f"step; in the first of them, meta-update {update}, {where}; start anew with a lower "
        "learning rate of the meta-optimizer, stronger clipping or a smaller output_scale."
    )
