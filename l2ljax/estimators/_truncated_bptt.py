"""Truncated backpropagation through time: the paper's meta-gradient.

The meta-loss of an episode is L(phi) = E_f sum_{t=1..T} w_t f(theta_t) (Andrychowicz et al. 2016,
equation 3). An episode of `episode_length` inner steps is cut into windows of `unroll_length`; each
call differentiates one window and carries the optimizees on to the next. One window may be the
whole episode, which removes the bias of truncation.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from l2ljax.base import GradientEstimator, Key, LearnedOptimizer, MetaParams, PyTree, Task
from l2ljax.checks import (
    check_optimizer,
    check_positive_int,
    check_task,
    is_number,
    short,
)
from l2ljax.estimators.divergence import diverged_at, mean_of_finite
from l2ljax.estimators.groups import group_state_specs, init_group_states
from l2ljax.estimators.optimizees import renewed, sample_batch
from l2ljax.estimators.passes import check_record_dtype, choose_pass
from l2ljax.estimators.recorded import recorded_meta_gradient
from l2ljax.estimators.scanned import scanned_meta_gradient
from l2ljax.estimators.weights import Weights, step_weights
from l2ljax.estimators.windows import Options, Window
from l2ljax.parallel import (
    SPLIT,
    WHOLE,
    check_mesh,
    coordinate_parts,
    gathered,
    mean_over_tasks,
    over_tasks,
    place_data,
)
from l2ljax.parallel.meshes import in_own_mesh
from l2ljax.unrolling import OptimizeeState
from l2ljax.unrolling.remat import Remat, check_remat


class TruncatedBPTTState(NamedTuple):
    """Where the running episodes stand.

    Attributes:
        position: int32 scalar, inner steps made in this episode; 0 means that fresh optimizees are
            drawn at the next call.
        optimizees: the running optimizees, every leaf with a leading axis `[num_tasks]` (the
            recorded backward pass keeps `opt_state` as one state per coordinate group instead).
    """

    position: jax.Array
    optimizees: OptimizeeState


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TruncatedBPTT(GradientEstimator):
    """See `truncated_bptt`, which checks these fields and fills them in."""

    task: Task
    optimizer: LearnedOptimizer = dataclasses.field(metadata={"static": True})
    num_tasks: int = dataclasses.field(metadata={"static": True})
    episode_length: int = dataclasses.field(metadata={"static": True})
    unroll_length: int = dataclasses.field(metadata={"static": True})
    weights: tuple[float, ...] = dataclasses.field(metadata={"static": True})
    second_derivatives: bool = dataclasses.field(metadata={"static": True})
    backward: Literal["recorded", "scan"] = dataclasses.field(metadata={"static": True})
    coordinate_share: float = dataclasses.field(metadata={"static": True})
    chunk_size: int | None = dataclasses.field(metadata={"static": True})
    remat: Remat | Literal["auto"] = dataclasses.field(metadata={"static": True})
    record_dtype: jax.typing.DTypeLike | None = dataclasses.field(metadata={"static": True})
    mesh: Mesh | None = dataclasses.field(metadata={"static": True})
    shard_data: bool = dataclasses.field(metadata={"static": True})

    @in_own_mesh
    def init(self, key: Key, meta_params: MetaParams) -> TruncatedBPTTState:
        """Draws the first optimizees; leaves have a leading axis `[num_tasks]`."""

        def start(task, meta_params, keys):
            instances, params = sample_batch(task, keys)
            return OptimizeeState(instances, params, self._init_opt_state(meta_params, params))

        keys = jax.random.split(key, self.num_tasks)
        optimizees = over_tasks(
            start, self.mesh, (self._data, WHOLE, SPLIT), self._optimizee_specs(meta_params)
        )(self.task, meta_params, keys)
        return TruncatedBPTTState(jnp.zeros([], jnp.int32), optimizees)

    @in_own_mesh
    def estimate(
        self, meta_params: MetaParams, state: TruncatedBPTTState, key: Key
    ) -> tuple[jax.Array, MetaParams, TruncatedBPTTState, dict[str, jax.Array]]:
        """The gradient of one window's share of the meta-loss, averaged over the tasks.

        A diverged optimizee (a loss or gradient that is not finite) is left out of the means and
        started anew; where all diverge the meta-gradient is NaN.

        `metrics` has `position` (int32, the window's first inner step), `losses` (float32
        `[unroll_length + 1]`, the mean over tasks of f(theta_t) along the window) and `diverged_at`
        (int32 `[num_tasks]`, the inner step at which the optimizee diverged, -1 if it did not).
        """
        # Keys for each task, made before the tasks part ways to the devices: so the draws are
        # the same on any number of those.
        keys = [jax.random.split(k, self.num_tasks) for k in jax.random.split(key, 3)]
        weights = jax.lax.dynamic_slice_in_dim(
            jnp.asarray(self.weights, jnp.float32), state.position, self.unroll_length
        )
        optimizees = self._optimizee_specs(meta_params)
        window = over_tasks(
            self._window,
            self.mesh,
            (self._data, WHOLE, optimizees, SPLIT, WHOLE, WHOLE),
            (WHOLE, SPLIT, SPLIT, optimizees),
        )
        meta_grads, losses, fine, optimizees = window(
            self.task, meta_params, state.optimizees, tuple(keys), weights, state.position == 0
        )
        losses, fine = gathered((losses, fine), self.mesh)
        # The tasks that diverged added 0 to a mean over all.
        share = fine.mean(dtype=jnp.float32)
        meta_grads = jax.tree.map(lambda g: g / share.astype(g.dtype), meta_grads)
        meta_loss = mean_of_finite(losses[:, 1:] @ weights, fine)
        metrics = {
            "position": state.position,
            "losses": mean_of_finite(losses, fine),
            "diverged_at": diverged_at(losses, fine, state.position),
        }
        position = (state.position + self.unroll_length) % self.episode_length
        return meta_loss, meta_grads, TruncatedBPTTState(position, optimizees), metrics

    def _window(self, task, meta_params, optimizees, keys, weights, start):
        """`(meta_grads, losses, which are fine, optimizees)` of the tasks on this device."""
        sample_keys, run_keys, share_keys = keys
        instances, params, opt_state = optimizees
        if self.unroll_length == self.episode_length:
            instances, params = sample_batch(task, sample_keys)
        else:
            instances, params = jax.lax.cond(
                start, lambda: sample_batch(task, sample_keys), lambda: (instances, params)
            )
        optimizees = OptimizeeState(instances, params, opt_state)
        if self.backward == "recorded":
            meta_grads, optimizees, losses, fine = recorded_meta_gradient(
                task,
                self.optimizer,
                meta_params,
                Window(optimizees, run_keys, share_keys, weights, start),
                Options(
                    self.coordinate_share,
                    self.chunk_size,
                    self.remat,
                    self.record_dtype,
                    coordinate_parts(self.mesh),
                ),
            )
        else:
            meta_grads, optimizees, losses, fine = scanned_meta_gradient(
                task,
                self.optimizer,
                meta_params,
                Window(optimizees, run_keys, share_keys, weights, start),
                second_derivatives=self.second_derivatives,
                remat="step" if self.remat == "auto" else self.remat,
            )
        if self.unroll_length < self.episode_length:
            optimizees = jax.lax.cond(
                fine.all(),
                lambda: optimizees,
                lambda: renewed(task, sample_keys, fine, optimizees),
            )
        return mean_over_tasks(meta_grads, self.mesh), losses, fine, optimizees

    def _init_opt_state(self, meta_params: MetaParams, params: PyTree) -> PyTree:
        if self.backward == "recorded":
            return init_group_states(self.optimizer, meta_params, params)
        return jax.vmap(self.optimizer.transform(meta_params).init)(params)

    def _optimizee_specs(self, meta_params: MetaParams) -> PyTree:
        if self.mesh is None or self.backward != "recorded":
            return SPLIT
        keys = jax.random.split(jax.random.key(0), self.num_tasks)
        _, params = jax.eval_shape(sample_batch, self.task, keys)
        return OptimizeeState(SPLIT, SPLIT, group_state_specs(self.optimizer, meta_params, params))

    @property
    def _data(self) -> PartitionSpec:
        return SPLIT if self.shard_data else WHOLE


def truncated_bptt(
    task: Task,
    optimizer: LearnedOptimizer,
    *,
    num_tasks: int,
    episode_length: int,
    unroll_length: int,
    weights: Weights | None = None,
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
        episode_length: inner steps from theta_0 to the end [T].
        unroll_length: inner steps in a window; must divide `episode_length`.
        weights: w_1 ... w_T >= 0, as an array `[episode_length]` or a function of the array of
            positions 1 ... T. Default: all 1. Only the last: `weights=lambda t: t == t[-1]`.
        second_derivatives: differentiate through the optimizee's gradients too (needs "scan").
        backward: "scan" differentiates the rollout step by step; "recorded" the optimizer alone,
            over the gradients recorded on the way: the same meta-gradient for optimizers that
            declare `coordinate_groups`, in less memory and time ("auto"), or `tensor_groups`, in
            less memory (a share of these is one of the tensors of a shape).
        coordinate_share: share of the coordinates, in (0, 1], that the recorded backward pass
            visits: a stratified sample, drawn anew for each meta-gradient, which stays unbiased.
        chunk_size: coordinates that the recorded pass handles at once; default: what fits.
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
    check_positive_int("episode_length", episode_length)
    check_positive_int("unroll_length", unroll_length)
    if chunk_size is not None:
        check_positive_int("chunk_size", chunk_size)
    if remat != "auto":
        check_remat(remat)
    if record_dtype is not None:
        check_record_dtype(record_dtype)
    check_mesh(mesh, num_tasks, task.data if shard_data else ())
    if episode_length % unroll_length:
        raise ValueError(
            f"unroll_length={unroll_length} does not divide episode_length={episode_length}; "
            "choose windows that fill the episode exactly."
        )
    if not (is_number(coordinate_share) and 0 < coordinate_share <= 1):
        raise ValueError(f"coordinate_share must lie in (0, 1], got {short(coordinate_share)}.")
    if backward not in ("auto", "recorded", "scan"):
        raise ValueError(f'backward must be "auto", "recorded" or "scan", got {short(backward)}.')
    backward = choose_pass(task, optimizer, backward, coordinate_share, second_derivatives, mesh)
    return TruncatedBPTT(
        task=dataclasses.replace(task, data=place_data(task.data, mesh, shard=shard_data)),
        optimizer=optimizer,
        num_tasks=num_tasks,
        episode_length=episode_length,
        unroll_length=unroll_length,
        weights=step_weights(weights, episode_length),
        second_derivatives=second_derivatives,
        backward=backward,
        coordinate_share=float(coordinate_share),
        chunk_size=chunk_size,
        remat=remat,
        record_dtype=None if record_dtype is None else jnp.dtype(record_dtype),
        mesh=mesh,
        shard_data=shard_data,
    )
