"""Backpropagation through windows of episodes in which all tasks stand at the same step.

See `truncated_bptt`; `l2ljax.estimators.staggered` has the tasks that stand apart.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from l2ljax.base import GradientEstimator, Key, LearnedOptimizer, MetaParams, PyTree, Task
from l2ljax.estimators.divergence import diverged_at, keep_tasks, mean_of_finite
from l2ljax.estimators.groups import (
    coordinate_groups,
    group_state_specs,
    init_group_states,
    keep_group_states,
)
from l2ljax.estimators.optimizees import renewed, sample_batch
from l2ljax.estimators.recorded import recorded_meta_gradient
from l2ljax.estimators.scanned import scanned_meta_gradient
from l2ljax.estimators.windows import Options, Window
from l2ljax.parallel import (
    SPLIT,
    WHOLE,
    coordinate_parts,
    gathered,
    mean_over_tasks,
    over_tasks,
)
from l2ljax.parallel.meshes import in_own_mesh
from l2ljax.parallel.platform import platform_of
from l2ljax.unrolling import OptimizeeState
from l2ljax.unrolling.remat import Remat


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
        meta_grads, optimizees, losses, fine = self._meta_gradient(
            task, meta_params, Window(optimizees, run_keys, share_keys, weights, start)
        )
        if self.unroll_length < self.episode_length:
            optimizees = jax.lax.cond(
                fine.all(),
                lambda: optimizees,
                lambda: self._renewed(task, meta_params, sample_keys, fine, optimizees),
            )
        return mean_over_tasks(meta_grads, self.mesh), losses, fine, optimizees

    def _meta_gradient(
        self, task: Task, meta_params: MetaParams, window: Window, copies: int = 1
    ) -> tuple[MetaParams, OptimizeeState, jax.Array, jax.Array]:
        """By the chosen backward pass, see `recorded_meta_gradient`; `copies` run side by side."""
        if self.backward == "recorded":
            options = Options(
                self.coordinate_share,
                self.chunk_size,
                self.remat,
                self.record_dtype,
                coordinate_parts(self.mesh),
                copies,
                platform_of(self.mesh),
            )
            return recorded_meta_gradient(task, self.optimizer, meta_params, window, options)
        return scanned_meta_gradient(
            task,
            self.optimizer,
            meta_params,
            window,
            second_derivatives=self.second_derivatives,
            remat="step" if self.remat == "auto" else self.remat,
        )

    def _renewed(self, task, meta_params, keys, fine, optimizees):
        """New optimizees in place of those that diverged, with the states of their theta_0.

        In the recorded pass what all tasks share, such as a count, goes on: `keep_group_states`.
        """
        optimizees = renewed(task, keys, fine, optimizees)
        fresh = self._init_opt_state(meta_params, optimizees.params)
        if self.backward == "recorded":
            groups = coordinate_groups(self.optimizer, optimizees.params)
            states = keep_group_states(groups, meta_params, fine, optimizees.opt_state, fresh)
        else:
            states = keep_tasks(fine, optimizees.opt_state, fresh)
        return optimizees._replace(opt_state=states)

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
