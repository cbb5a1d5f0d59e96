"""Evolution strategies over windows of episodes: what es, pes, nres, gpes and full_es share.

They differ in three choices: what is carried from window to window (each perturbed optimizee, one
unperturbed one a task, or nothing), when noise is drawn anew, and whether an episode's is summed.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from l2ljax.base import GradientEstimator, Key, LearnedOptimizer, MetaParams, Task
from l2ljax.estimators.axes import fold, in_parts
from l2ljax.estimators.divergence import mean_of_finite, mean_of_seen
from l2ljax.estimators.episodes import cut_short, first_episodes, first_shares
from l2ljax.estimators.evolution_state import EvolutionState, Outcome
from l2ljax.estimators.particles import (
    Objective,
    Pairs,
    Rollout,
    Told,
    WindowKeys,
    behind_first,
    mean_losses,
    run_window,
    start_pairs,
)
from l2ljax.estimators.perturbations import (
    Sigma,
    gaussian,
    gradient_sum,
    largest_divisor,
    least_alone,
    scales,
    score,
    window_coefficients,
)
from l2ljax.estimators.weights import stretched
from l2ljax.parallel import SPLIT, WHOLE, gathered, mean_over_tasks, over_tasks
from l2ljax.parallel.meshes import in_own_mesh

ANTITHETIC, CENTRE = (1.0, -1.0), (0.0,)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class EvolutionStrategy(GradientEstimator):
    """See `es`, `pes`, `nres`, `gpes` and `full_es`, which fill in these fields."""

    task: Task
    optimizer: LearnedOptimizer = dataclasses.field(metadata={"static": True})
    num_tasks: int = dataclasses.field(metadata={"static": True})
    num_perturbations: int = dataclasses.field(metadata={"static": True})
    episode_lengths: tuple[int, int] = dataclasses.field(metadata={"static": True})
    unroll_length: int = dataclasses.field(metadata={"static": True})
    sigma: Sigma = dataclasses.field(metadata={"static": True})
    carried: Literal["pairs", "centre", "nothing"] = dataclasses.field(metadata={"static": True})
    redraw_every: int | None = dataclasses.field(metadata={"static": True})
    accumulates: bool = dataclasses.field(metadata={"static": True})
    weights: tuple[float, ...] = dataclasses.field(metadata={"static": True})
    reduction: Literal["sum", "mean", "last", "min"] = dataclasses.field(metadata={"static": True})
    objective: Objective | None = dataclasses.field(metadata={"static": True})
    told: Told | None = dataclasses.field(metadata={"static": True})
    loss_transform: Any = dataclasses.field(metadata={"static": True})
    delta_losses: bool = dataclasses.field(metadata={"static": True})
    sign: bool = dataclasses.field(metadata={"static": True})
    stagger: bool = dataclasses.field(metadata={"static": True})
    perturbations_at_once: int | None = dataclasses.field(metadata={"static": True})
    mesh: Mesh | None = dataclasses.field(metadata={"static": True})
    shard_data: bool = dataclasses.field(metadata={"static": True})

    @in_own_mesh
    def init(self, key: Key, meta_params: MetaParams) -> EvolutionState | tuple[()]:
        """Draws the first optimizees; leaves have a leading axis `[num_tasks]`."""
        scales(self.sigma, meta_params)
        if self.carried == "nothing":
            return ()
        task_keys, pair_keys, first = self._keys(key)
        start = over_tasks(self._start, self.mesh, (self._data, WHOLE, SPLIT, SPLIT, SPLIT), SPLIT)
        shares = (
            first_shares(first, self.num_tasks)
            if self.stagger
            else jnp.ones(self.num_tasks, jnp.float32)
        )
        return start(self.task, meta_params, task_keys[0], pair_keys, shares)

    @in_own_mesh
    def estimate(
        self, meta_params: MetaParams, state: Any, key: Key
    ) -> tuple[jax.Array, MetaParams, Any, dict[str, jax.Array]]:
        """The gradient of one window's share of the smoothed meta-loss, mean over all pairs.

        A pair with a loss that is not finite is left out of the means and started anew; where none
        is finite the meta-gradient is NaN.

        `metrics` has `position` (int32 `[num_tasks]`, inner steps made in each task's episode
        before the window), `losses` (float32 `[unroll_length + 1]`, their mean over all perturbed
        optimizees along the window), `diverged_at` (int32 `[num_tasks]`, the step at which a task's
        first optimizee diverged, -1 if none did) and `pairs_left_out` (int32, how many).
        """
        task_keys, pair_keys, _ = self._keys(key)
        keys = WindowKeys(*task_keys, pair_keys)  # pyright: ignore
        if self.carried == "nothing":
            start = over_tasks(self._start, self.mesh, (self._data, WHOLE, SPLIT, SPLIT), SPLIT)
            # The keys that a window draws its first episodes with.
            running = start(self.task, meta_params, fold(task_keys[1], 0), pair_keys)
        else:
            running = state
        window = over_tasks(
            self._window,
            self.mesh,
            (self._data, WHOLE, SPLIT, SPLIT),
            (WHOLE, SPLIT, SPLIT),
        )
        (sums, counted), after, outcome = window(self.task, meta_params, running, keys)
        outcome, position = gathered((outcome, running.episodes.position), self.mesh)
        meta_grads = jax.tree.map(
            lambda g, p: (g / counted).astype(jnp.result_type(p)), sums, meta_params
        )
        fine = outcome.fine
        if self.carried != "nothing":
            position = jnp.where(position >= running.episodes.length, 0, position)
        latest = jnp.iinfo(jnp.int32).max
        first = jnp.where(fine, latest, outcome.bad_at).min(axis=1)
        metrics = {
            "position": position,
            "losses": mean_of_seen(outcome.losses.reshape(fine.size, -1), fine.reshape(-1)),
            "diverged_at": jnp.where(first == latest, -1, first),
            "pairs_left_out": (~fine).sum(dtype=jnp.int32),
        }
        meta_loss = mean_of_finite(outcome.value.reshape(-1), fine.reshape(-1))
        return meta_loss, meta_grads, () if self.carried == "nothing" else after, metrics

    def _keys(self, key):
        """`((steps, fresh), noise, other)`: made before the tasks part ways to the devices, so
        that the draws are the same on any number of those."""
        if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            key = jax.random.wrap_key_data(key)
        steps, fresh, noise, other = jax.random.split(key, 4)
        task_keys = tuple(jax.random.split(k, self.num_tasks) for k in (steps, fresh))
        return task_keys, jax.random.split(noise, (self.num_tasks, self.num_perturbations)), other

    def _start(self, task, meta_params, keys, noise_keys, first=None):
        episodes = first_episodes(task, keys, self.episode_lengths)
        if first is not None:
            # Whole windows, so that episodes made of whole windows stay so.
            low, high = self.episode_lengths
            unit = self.unroll_length if low == high and high % self.unroll_length == 0 else 1
            episodes = episodes._replace(length=cut_short(episodes.length, first, unit))
        if self.carried == "centre":
            noise_keys = noise_keys[:, :1]
        signs = CENTRE if self.carried == "centre" else ANTITHETIC
        pairs = start_pairs(
            task, self.optimizer, meta_params, episodes, keys, noise_keys, len(signs)
        )
        total = None
        if self.accumulates:
            total = jax.tree.map(
                lambda p: jnp.zeros(noise_keys.shape + jnp.shape(p), jnp.result_type(p)),
                meta_params,
            )
        return EvolutionState(episodes, pairs, total)

    def _window(self, task, meta_params, state, keys):
        """`((sum of gradients, number of fine pairs), state, outcome)` on this device."""
        num_tasks = state.episodes.position.shape[0]
        running = state
        if self.carried == "centre":
            running = state._replace(pairs=self._pairs_at_centre(state.pairs))
        bound = self.perturbations_at_once or num_tasks * self.num_perturbations
        at_once = largest_divisor(self.num_perturbations, min(bound, self.num_perturbations))
        tasks_at_once = largest_divisor(num_tasks, max(1, bound // self.num_perturbations))

        def few_tasks(arguments):
            return self._few_tasks(task, meta_params, *arguments, at_once)  # pyright: ignore

        sums, _, (after, outcome) = in_parts(few_tasks, (running, keys), num_tasks, tasks_at_once)
        if self.carried == "centre":
            after = self._centre_after(task, meta_params, state, keys)
        counted = outcome.fine.sum(dtype=jnp.float32)
        return mean_over_tasks((sums, counted), self.mesh), after, outcome

    def _few_tasks(self, task, meta_params, state, keys, at_once):
        """A window of some tasks, `at_once` of their pairs at a time."""

        def few_pairs(arguments):
            pairs, total, noise = arguments
            few, noisy = EvolutionState(state.episodes, pairs, total), keys._replace(noise=noise)
            sums, after, outcome = self._few_pairs(task, meta_params, few, noisy)
            # The episodes go the same way beside any pairs: the first part's will do.
            return sums, after.episodes, (after.pairs, after.total, outcome)

        arguments = (state.pairs, state.total, keys.noise)
        sums, episodes, (pairs, total, outcome) = in_parts(
            few_pairs, arguments, self.num_perturbations, at_once, axis=1
        )
        return sums, None, (EvolutionState(episodes, pairs, total), outcome)

    def _few_pairs(self, task, meta_params, state, keys):
        """A window of pairs that are all in memory: `(sum of gradients, state, outcome)`."""
        draw = gaussian(self.sigma, meta_params)
        rollout = self._rollout(ANTITHETIC)
        old_keys = state.pairs.keys
        episodes, pairs, record = run_window(
            rollout, task, meta_params, state.episodes, state.pairs, keys, draw
        )
        values = self._transformed(record.values[1:])
        if self.reduction == "min":
            values = least_alone(values, self._step_weights(record))
        weighted, coefficients = window_coefficients(
            values,
            self._transformed(record.starts),
            record.restarted,
            self._step_weights(record),
            delta=self.delta_losses,
            sign=self.sign,
        )
        sums, total = score(
            coefficients, record.redrawn, record.restarted, old_keys, keys.noise, state.total, draw
        )
        good = jnp.isfinite(record.losses[1:])
        if self.carried == "nothing":
            good |= behind_first(record)[..., None, None]
        good = (good & jnp.isfinite(weighted)).all(axis=-1)
        fine = good.all(axis=0)
        bad_at = jnp.take_along_axis(
            jnp.broadcast_to(record.positions[..., None], good.shape),
            jnp.argmin(good, axis=0)[None],
            axis=0,
        )[0]
        losses = mean_losses(record, alone=self.carried == "nothing")
        outcome = Outcome(losses, weighted.mean(axis=-1), fine, bad_at)
        gradients = gradient_sum(sums, fine, scales(self.sigma, meta_params))
        return gradients, EvolutionState(episodes, pairs._replace(stale=~fine), total), outcome

    def _rollout(self, signs):
        return Rollout(
            self.optimizer,
            self.unroll_length,
            signs,
            self.redraw_every,
            self.episode_lengths,
            self.objective,
            self.told,
        )

    def _transformed(self, values):
        return values if self.loss_transform is None else self.loss_transform(values)

    def _step_weights(self, record):
        """Weights of the steps, float32 `[num_steps, tasks]`: w_t, reduced over the window."""
        weights = stretched(self.weights, record.positions, record.lengths)
        if self.carried == "nothing":
            weights = jnp.where(behind_first(record), 0, weights)
            steps = record.lengths[0].astype(weights.dtype)
        else:
            steps = self.unroll_length
        if self.reduction == "mean":
            return weights / steps
        if self.reduction == "last":
            last = (record.positions == record.lengths).at[-1].set(True)
            return jnp.where(last, weights, 0)
        return weights

    def _pairs_at_centre(self, centre):
        """The pairs of `es`: all start the window where the unperturbed optimizee stands."""
        shape = (self.num_perturbations, len(ANTITHETIC))

        def repeat(leaf):
            return jnp.broadcast_to(leaf, (leaf.shape[0], *shape, *leaf.shape[3:]))

        tasks = centre.stale.shape[0]
        params, opt_state = (jax.tree.map(repeat, t) for t in (centre.params, centre.opt_state))
        return Pairs(
            params,
            opt_state,
            jnp.broadcast_to(centre.keys, (tasks, self.num_perturbations)),
            jnp.broadcast_to(centre.stale, (tasks, self.num_perturbations)),
        )

    def _centre_after(self, task, meta_params, state, keys):
        """The unperturbed optimizees after the window, on the same minibatches."""
        zero = jax.tree.map(jnp.zeros_like, meta_params)
        episodes, centre, record = run_window(
            self._rollout(CENTRE),
            task,
            meta_params,
            state.episodes,
            state.pairs,
            keys._replace(noise=keys.noise[:, :1]),
            lambda key: zero,
        )
        fine = jnp.isfinite(record.losses[1:]).all(axis=(0, -1))
        return EvolutionState(episodes, centre._replace(stale=~fine), state.total)

    @property
    def _data(self) -> PartitionSpec:
        return SPLIT if self.shard_data else WHOLE
