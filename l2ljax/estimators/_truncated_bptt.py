"""Truncated backpropagation through time: the paper's meta-gradient.

The meta-loss of an episode is L(phi) = E_f sum_{t=1..T} w_t f(theta_t) (Andrychowicz et al. 2016,
equation 3). An episode of `episode_length` inner steps is cut into windows of `unroll_length`; each
call differentiates one window and carries the optimizees on to the next. One window may be the
whole episode, which removes the bias of truncation.
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from l2ljax.base import LearnedOptimizer, Task
from l2ljax.checks import (
    check_choice,
    check_kind,
    check_optimizer,
    check_positive_int,
    check_task,
    is_number,
    short,
)
from l2ljax.estimators.backpropagation import TruncatedBPTT
from l2ljax.estimators.episodes import check_lengths, whole_windows
from l2ljax.estimators.passes import check_record_dtype, choose_pass
from l2ljax.estimators.staggered import StaggeredBPTT
from l2ljax.estimators.weights import Weights, step_weights
from l2ljax.parallel import check_mesh, place_data
from l2ljax.unrolling.remat import Remat, check_remat


def truncated_bptt(
    task: Task,
    optimizer: LearnedOptimizer,
    *,
    num_tasks: int,
    episode_length: int | tuple[int, int],
    unroll_length: int,
    weights: Weights | None = None,
    stagger: bool = False,
    second_derivatives: bool = False,
    backward: Literal["auto", "recorded", "scan"] = "auto",
    coordinate_share: float = 1.0,
    chunk_size: int | None = None,
    remat: Remat | Literal["auto"] = "auto",
    record_dtype: jax.typing.DTypeLike | None = None,
    mesh: Mesh | None = None,
    shard_data: bool = False,
) -> TruncatedBPTT:
    """The paper's estimator: backpropagation through windows of an episode.

    Args:
        task: what to optimize.
        optimizer: what learns to optimize it.
        num_tasks: optimizees trained side by side; the meta-gradient is their mean.
        episode_length: inner steps from theta_0 to the end [T], or bounds (low, high) of lengths
            that each task draws for each of its episodes: log-uniform, whole windows where windows
            fill both bounds.
        unroll_length: inner steps in a window. Where all tasks stand at the same step it must
            divide `episode_length`. With `stagger` or drawn lengths it need not: an episode then
            ends inside a window, the next one begins there, and no derivative goes from one to the
            other; each such step costs a second look at the loss.
        weights: w_1 ... w_T >= 0, as an array `[episode_length]` or a function of the array of
            positions 1 ... T. Default: all 1. Only the last: `weights=lambda t: t == t[-1]`. Where
            lengths are drawn T is the largest, and a shorter episode has the weights of the same
            shares of its length.
        stagger: spread the tasks over the episode: the first one of each is cut short (to whole
            windows where those fill episodes) after another share of its length; the first task
            has a whole one. A meta-gradient then sees early and late steps at once.
        second_derivatives: differentiate through the optimizee's gradients too (needs "scan").
        backward: "scan" differentiates the rollout step by step; "recorded" the optimizer alone,
            over the gradients recorded on the way: the same meta-gradient, until an optimizee
            diverges, whose successor goes on with the count of steps. It is for optimizers that
            declare `coordinate_groups`, in less memory and time ("auto"), or `tensor_groups`, in
            less memory (a share of these is one of the tensors of a shape).
        coordinate_share: share of the coordinates, in (0, 1], that the recorded backward pass
            visits: a stratified sample, drawn anew for each meta-gradient, which stays unbiased.
        chunk_size: coordinates that the recorded pass handles at once; default: what fits a CPU's
            cache, or 1 GiB of an accelerator's memory.
        remat: what the backward pass keeps, "none", "step" or "nested", see `l2ljax.unroll`.
            "auto" is "step" for the scan, and what fits for the recorded pass.
        record_dtype: what the recorded gradients are held in until the backward pass, which
            computes in the optimizer's own dtype; default: the gradients' own. "bfloat16" halves
            the record and rounds to 8 bits; float16, which ends at 65,504, is refused.
        mesh: devices to spread the tasks over: an axis "tasks", whose size divides `num_tasks`;
            the meta-gradient is that of one device up to the order of sums. Devices along an axis
            "coordinates" share the learned optimizer's work on the same tasks (recorded pass only;
            each draws its own sample). See `l2ljax.task_mesh`. Default: where the arrays are.
        shard_data: split the leading axis of the task's data over the mesh's devices instead of
            copying them to each; a task then draws from its device's part.

    Returns:
        a `GradientEstimator`; `meta_loss` is the window's sum of w_t f(theta_t), over tasks a mean.

    Raises:
        ValueError: for lengths that do not divide, bad weights, and options that exclude others.
        TypeError: for a `stagger` that is no boolean.

    Example:
        >>> from l2ljax.optimizers import lstm
        >>> from l2ljax.tasks import quadratic
        >>> estimator = truncated_bptt(
        ...     quadratic(), lstm(), num_tasks=4, episode_length=10, unroll_length=5
        ... )
        >>> meta_params = estimator.optimizer.init(jax.random.key(0))
        >>> state = estimator.init(jax.random.key(1), meta_params)
        >>> loss, grads, state, metrics = estimator.estimate(meta_params, state, jax.random.key(2))
        >>> int(state.position), metrics["losses"].shape
        (5, (6,))
    """
    check_task(task)
    check_optimizer("optimizer", optimizer)
    check_positive_int("num_tasks", num_tasks)
    check_positive_int("unroll_length", unroll_length)
    check_kind("stagger", stagger, bool)
    low, high = check_lengths(episode_length)
    apart = stagger or low < high
    if not apart:
        whole_windows(episode_length, unroll_length)
    _check_pass(chunk_size, remat, record_dtype, coordinate_share, backward)
    check_mesh(mesh, num_tasks, task.data if shard_data else ())
    kind = (
        functools.partial(StaggeredBPTT, shortest_episode=low, stagger=stagger)
        if apart
        else TruncatedBPTT
    )
    return kind(
        task=dataclasses.replace(task, data=place_data(task.data, mesh, shard=shard_data)),
        optimizer=optimizer,
        num_tasks=num_tasks,
        episode_length=high,
        unroll_length=unroll_length,
        weights=step_weights(weights, high),
        second_derivatives=second_derivatives,
        backward=choose_pass(task, optimizer, backward, coordinate_share, second_derivatives, mesh),
        coordinate_share=float(coordinate_share),
        chunk_size=chunk_size,
        remat=remat,
        record_dtype=None if record_dtype is None else jnp.dtype(record_dtype),
        mesh=mesh,
        shard_data=shard_data,
    )


def _check_pass(chunk_size, remat, record_dtype, coordinate_share, backward):
    """Refuses what no backward pass can be given."""
    if chunk_size is not None:
        check_positive_int("chunk_size", chunk_size)
    if remat != "auto":
        check_remat(remat)
    if record_dtype is not None:
        check_record_dtype(record_dtype)
    if not (is_number(coordinate_share) and 0 < coordinate_share <= 1):
        raise ValueError(f"coordinate_share must lie in (0, 1], got {short(coordinate_share)}.")
    check_choice("backward", backward, ("auto", "recorded", "scan"))
