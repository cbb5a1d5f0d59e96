"""Scans that keep less for their backward pass than every activation (rematerialisation).

Griewank & Walther (2000) give the trade: keeping the carry of every step costs one more forward
pass and memory in proportion to the steps; keeping it at every sqrt(T)-th step and remaking the
others costs two forward passes and memory in proportion to 2 sqrt(T).
"""

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from l2ljax.base import PyTree

Remat = Literal["none", "step", "nested"]


def checkpointed_scan(
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    init: PyTree,
    xs: PyTree,
    *,
    remat: Remat = "step",
    policy: Callable[..., Any] | None = None,
) -> tuple[PyTree, PyTree]:
    """`jax.lax.scan(step, init, xs)`, with a choice of what its backward pass keeps.

    Args:
        step: `(carry, x) -> (carry, y)`.
        init: the first carry.
        xs: arrays with a leading axis `[num_steps]`.
        remat: "none" keeps every activation of every step; "step" the carry of every step, and
            recomputes the rest; "nested" the carry of every `segment_length(num_steps)`-th step,
            and, one segment at a time, of the steps in it.
        policy: values to keep nevertheless, see `jax.checkpoint`.

    Returns:
        the last carry, and ys with a leading axis `[num_steps]`.

    Example:
        >>> def step(carry, x):
        ...     return jnp.tanh(carry + x), carry
        >>> f = lambda x: checkpointed_scan(step, 0.0, jnp.full(7, x), remat="nested")[0]
        >>> bool(jnp.isfinite(jax.grad(f)(0.5)))
        True
    """
    check_remat(remat)
    if remat == "none":
        return jax.lax.scan(step, init, xs)
    # Inside a loop nothing can merge the recomputed values with the first ones: no barriers needed.
    step = jax.checkpoint(step, prevent_cse=False, policy=policy)
    num_steps = jax.tree.leaves(xs)[0].shape[0]
    length = segment_length(num_steps)
    if remat == "step" or length == 1:
        return jax.lax.scan(step, init, xs)

    def segment(carry, xs):
        return jax.lax.scan(step, carry, xs)

    whole = num_steps // length * length
    segments = jax.tree.map(lambda x: x[:whole].reshape(-1, length, *x.shape[1:]), xs)
    rest = jax.tree.map(lambda x: x[whole:], xs)
    carry, ys = jax.lax.scan(
        jax.checkpoint(segment, prevent_cse=False, policy=policy), init, segments
    )
    ys = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), ys)
    if whole < num_steps:
        carry, last = jax.lax.scan(step, carry, rest)
        ys = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), ys, last)
    return carry, ys


def segment_length(num_steps: int) -> int:
    """Steps in a segment of the nested scan."""
    return max(1, math.isqrt(num_steps))


def steps_kept(num_steps: int, remat: Remat) -> int:
    """Carries that the backward pass of `checkpointed_scan` holds at once."""
    if remat != "nested":
        return num_steps
    length = segment_length(num_steps)
    return -(-num_steps // length) + length


def check_remat(remat: str) -> None:
    """Refuses a name that is no choice.

    Raises:
        ValueError: for anything but "none", "step" or "nested".
    """
    if remat not in get_args(Remat):
        raise ValueError(f"remat must be one of {get_args(Remat)}, got {remat!r}.")
