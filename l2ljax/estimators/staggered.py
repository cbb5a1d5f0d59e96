"""Windows of tasks that stand at different places of their episodes, differentiated one by one.

Each task has a position and a length of its own, as in the evolution strategies; its meta-gradient
is that of a batch of one, and all run side by side. Where windows fill the episodes, one begins
where a window does; else also inside (`l2ljax.estimators.inside`). What is differentiated never
goes through the end of an episode.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from l2ljax.base import GradientEstimator, Key, LearnedOptimizer, MetaParams, PyTree, Task
from l2ljax.estimators.axes import select
from l2ljax.estimators.backpropagation import TruncatedBPTT
from l2ljax.estimators.divergence import diverged_at, mean_of_finite
from l2ljax.estimators.episodes import cut_short, draw_length, first_shares
from l2ljax.estimators.inside import Course, Inside, course_of
from l2ljax.estimators.optimizees import sample_batch
from l2ljax.estimators.weights import stretched
from l2ljax.estimators.windows import Window
from l2ljax.parallel import SPLIT, WHOLE, gathered, mean_over_tasks, over_tasks
from l2ljax.parallel.meshes import in_own_mesh
from l2ljax.unrolling import OptimizeeState


class StaggeredState(NamedTuple):
    """Where each task stands; leaves have a leading axis `[num_tasks]`.

    Attributes:
        position: int32, inner steps made in this episode; 0 means that a fresh optimizee is drawn
            at the next call.
        length: int32, those it has in all; where `position` has come to it, a new one begins.
        optimizees: the running ones; each `opt_state` is that of a batch of one.
    """

    position: jax.Array
    length: jax.Array
    optimizees: OptimizeeState


@dataclasses.dataclass(frozen=True, kw_only=True)
class Staggered(GradientEstimator):
    """What estimators of such windows share; they add `_init_opt_state` and `_alone`.

    `episode_length` is the largest of the lengths.
    """

    task: Task
    optimizer: LearnedOptimizer = dataclasses.field(metadata={"static": True})
    num_tasks: int = dataclasses.field(metadata={"static": True})
    episode_length: int = dataclasses.field(metadata={"static": True})
    shortest_episode: int = dataclasses.field(metadata={"static": True})
    unroll_length: int = dataclasses.field(metadata={"static": True})
    weights: tuple[float, ...] = dataclasses.field(metadata={"static": True})
    stagger: bool = dataclasses.field(metadata={"static": True})
    mesh: Mesh | None = dataclasses.field(metadata={"static": True})
    shard_data: bool = dataclasses.field(metadata={"static": True})

    @abc.abstractmethod
    def _init_opt_state(self, meta_params: MetaParams, params: PyTree) -> PyTree:
        """Fresh state of the optimizers of a batch, for params `[tasks, ...]`."""

    @abc.abstractmethod
    def _alone(self, task: Task, meta_params: MetaParams, window: Window, copies: int) -> Any:
        """The window of a batch of one, of which `copies` run side by side.

        Returns:
            `(meta_grads, optimizees, losses, values, fine)`: the gradient of its value, to which a
            diverged task adds 0; the optimizees after it; float32 `[1, num_steps + 1]`, f(theta_t);
            float32 `[1]`, what it adds to the meta-loss; bool `[1]`, whether all was finite.
        """

    @in_own_mesh
    def init(self, key: Key, meta_params: MetaParams) -> StaggeredState:
        """Draws the first optimizees, and where their first episodes end."""
        sample_key, length_key, first_key = jax.random.split(key, 3)
        keys = tuple(jax.random.split(k, self.num_tasks) for k in (sample_key, length_key))
        shares = jnp.ones(self.num_tasks)
        if self.stagger:
            shares = first_shares(first_key, self.num_tasks)

        def start(task, meta_params, keys, shares):
            instances, params = sample_batch(task, keys[0])
            opt_state = self._fresh(meta_params, params)
            length = cut_short(self._lengths(keys[1]), shares, self._unit)
            optimizees = OptimizeeState(instances, params, opt_state)
            return StaggeredState(jnp.zeros_like(length), length, optimizees)

        specs = (self._data, WHOLE, SPLIT, SPLIT)
        return over_tasks(start, self.mesh, specs, SPLIT)(self.task, meta_params, keys, shares)

    @in_own_mesh
    def estimate(
        self, meta_params: MetaParams, state: StaggeredState, key: Key
    ) -> tuple[jax.Array, MetaParams, StaggeredState, dict[str, jax.Array]]:
        """The gradient of the windows' share of the meta-loss, averaged over the tasks.

        A diverged optimizee (a loss or gradient that is not finite) is left out of the means and
        begins a new episode; where all diverge the meta-gradient is NaN.

        `metrics` has `position` (int32 `[num_tasks]`, each window's first inner step), `losses`
        (float32 `[unroll_length + 1]`, the mean over tasks of f(theta_t) along the window; where an
        episode begins inside it, that of the ended one) and `diverged_at` (int32 `[num_tasks]`, the
        inner step at which the optimizee diverged, -1 if it did not).
        """
        keys = [jax.random.split(k, self.num_tasks) for k in jax.random.split(key, 4)]
        window = over_tasks(
            self._windows,
            self.mesh,
            (self._data, WHOLE, SPLIT, SPLIT),
            (WHOLE, SPLIT, SPLIT),
        )
        meta_grads, outcome, state = window(self.task, meta_params, state, tuple(keys))
        steps, losses, values, fine = gathered(outcome, self.mesh)
        share = fine.mean(dtype=jnp.float32)  # those that diverged added 0 to a mean over all
        meta_grads = jax.tree.map(lambda g: g / share.astype(g.dtype), meta_grads)
        metrics = {
            "position": steps[:, 0],
            "losses": mean_of_finite(losses, fine),
            "diverged_at": diverged_at(losses, fine, steps),
        }
        return mean_of_finite(values, fine), meta_grads, state, metrics

    def _windows(self, task, meta_params, state, keys):
        """`(meta_grads, (steps of the losses, losses, values, which are fine), state)` on this
        device."""
        sample_keys, run_keys, share_keys, length_keys = keys
        position, length, optimizees = self._begun(task, state, sample_keys, length_keys)
        steps, lengths, restarts = self._course(position, length, length_keys)
        anywhere = restarts.any(axis=0)
        weights = stretched(self.weights, steps, lengths)
        inside = Inside(restarts, None, sample_keys) if self._ends_inside else None
        windows = Window(optimizees, run_keys, share_keys, weights, position == 0, inside)

        def of_one(window):
            if window.inside is not None:  # the same for all, so that it stays a branch
                window = window._replace(inside=window.inside._replace(anywhere=anywhere))
            return self._alone(task, meta_params, window, len(position))

        meta_grads, optimizees, losses, values, fine = each_alone(of_one, windows)
        meta_grads = jax.tree.map(lambda g: g.mean(axis=0), meta_grads)
        after = steps[:, -1]
        state = StaggeredState(after, jnp.where(fine, lengths[:, -1], after), optimizees)
        steps = jnp.concatenate([position[:, None], steps], axis=1)
        return mean_over_tasks(meta_grads, self.mesh), (steps, losses, values, fine), state

    def _begun(self, task, state, sample_keys, length_keys):
        """`state` with the optimizees of episodes that begin: where one is over, and at the first
        window of all."""
        ended = state.position >= state.length
        fresh = ended | (state.position == 0)

        def anew():
            lengths = jnp.where(ended, self._lengths(length_keys), state.length)
            instance, params, opt_state = state.optimizees
            instance, params = select(fresh, sample_batch(task, sample_keys), (instance, params))
            optimizees = OptimizeeState(instance, params, opt_state)
            return StaggeredState(jnp.where(ended, 0, state.position), lengths, optimizees)

        return jax.lax.cond(fresh.any(), anew, lambda: state)

    def _lengths(self, keys: Key) -> jax.Array:
        """Int32 `[tasks]`, of new episodes: a number of units whose logarithm is uniform."""
        unit = self._unit
        bounds = self.shortest_episode // unit, self.episode_length // unit
        return jax.vmap(lambda k: draw_length(k, bounds))(keys) * unit

    def _fresh(self, meta_params: MetaParams, params: PyTree) -> PyTree:
        """States of batches of one, for params `[tasks, ...]`."""
        return jax.vmap(lambda p: self._init_opt_state(meta_params, alone(p)))(params)

    def _course(self, position, length, keys) -> Course:
        """Of windows that begin at these positions of episodes of these lengths."""

        def draw(step):
            return self._lengths(jax.vmap(lambda k: jax.random.fold_in(k, step))(keys))

        if self._ends_inside:
            return course_of(position, length, self.unroll_length, draw)
        steps = position[:, None] + jnp.arange(1, self.unroll_length + 1, dtype=position.dtype)
        return Course(
            steps, jnp.broadcast_to(length[:, None], steps.shape), jnp.zeros(steps.shape, bool)
        )

    @property
    def _ends_inside(self) -> bool:
        """Whether windows do not fill all episodes."""
        return any(n % self.unroll_length for n in (self.shortest_episode, self.episode_length))

    @property
    def _unit(self) -> int:
        """Steps that lengths are multiples of."""
        return 1 if self._ends_inside else self.unroll_length

    @property
    def _data(self) -> PartitionSpec:
        return SPLIT if self.shard_data else WHOLE


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class StaggeredBPTT(Staggered, TruncatedBPTT):  # pyright: ignore
    """See `truncated_bptt`."""

    def _alone(self, task, meta_params, window, copies):
        grads, after, losses, fine = self._meta_gradient(task, meta_params, window, copies)
        return grads, after, losses, losses[:, 1:] @ window.weights, fine

    def _init_opt_state(self, meta_params, params):
        return TruncatedBPTT._init_opt_state(self, meta_params, params)


def alone(tree: PyTree) -> PyTree:
    """A batch of one."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


def each_alone(function: Callable[[Window], Any], windows: Window) -> Any:
    """`function` of batches of one, side by side.

    Args:
        function: see `Staggered._alone`.
        windows: leaves `[num_tasks, ...]`, weights and restarts included; each `opt_state` is that
            of a batch of one.

    Returns:
        what it does, leaves `[num_tasks, ...]`.
    """

    def one(window):
        instance, params = alone(window.optimizees[:2])
        optimizees = OptimizeeState(instance, params, window.optimizees.opt_state)
        keys, share_keys, inside = alone(window.keys), alone(window.share_keys), window.inside
        if inside is not None:
            inside = inside._replace(keys=alone(inside.keys))
        grads, after, *found = function(
            Window(optimizees, keys, share_keys, window.weights, window.restart, inside)
        )
        instance, params, *found = jax.tree.map(lambda x: x[0], (*after[:2], *found))
        return grads, OptimizeeState(instance, params, after.opt_state), *found

    return jax.vmap(one)(windows)
