"""Perturbed optimizees run side by side through one window of their episodes.

Evolution strategies see a learned optimizer only through the losses it reaches. Each task runs
pairs of optimizees under phi + epsilon and phi - epsilon, which share the instance, theta_0, the
minibatches and every other random draw, so that their losses differ by the perturbation alone.
Tasks may stand at different places of their episodes, and an episode may end inside a window; the
next one then begins there.

Axes are [tasks, pairs, members]: a pair's members are +epsilon and -epsilon.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import Key, LearnedOptimizer, MetaParams, Params, PyTree, Task
from l2ljax.estimators.axes import Draw, draw_all, each_member, fold, select
from l2ljax.estimators.episodes import Episodes, first_episodes
from l2ljax.unrolling import scalar_loss

Objective = Callable[[Params, Any], jax.Array]
Told = Callable[[jax.Array], jax.Array]


class Pairs(NamedTuple):
    """The perturbed optimizees.

    Attributes:
        params, opt_state: leaves `[tasks, pairs, members, ...]`.
        keys: random keys `[tasks, pairs]`, of the perturbation in use.
        stale: bool `[tasks, pairs]`: to be started anew at the next step, as after a divergence.
    """

    params: Params
    opt_state: PyTree
    keys: Key
    stale: jax.Array


class WindowKeys(NamedTuple):
    """Randomness of a window: of its minibatches and new episodes `[tasks]`, and of new noise
    `[tasks, pairs]`; the last two are folded with the step at which they are used."""

    steps: Key
    fresh: Key
    noise: Key


class Record(NamedTuple):
    """What a window left behind, step by step.

    Attributes:
        losses, values: float32 `[num_steps + 1, tasks, pairs, members]`, f(theta_t) and the
            objective there, both before any restart at t: the last of an episode are its final
            ones. They are those of the window's start at 0.
        starts: float32 `[num_steps, tasks, pairs, members]`, the objective after restarts.
        positions, lengths: int32 `[num_steps, tasks]`, of the episode after each step.
        redrawn, restarted: bool `[num_steps, tasks, pairs]`, what happened before each step.
    """

    losses: jax.Array
    values: jax.Array
    starts: jax.Array
    positions: jax.Array
    lengths: jax.Array
    redrawn: jax.Array
    restarted: jax.Array


def behind_first(record: Record) -> jax.Array:
    """Bool `[num_steps, tasks]`: steps behind the end of the window's first episode.

    Where nothing is carried from window to window they are no part of its loss, finite or not.
    """
    over = jnp.cumsum(record.restarted[1:, :, 0], axis=0) > 0
    return jnp.concatenate([jnp.zeros_like(record.restarted[:1, :, 0]), over])


def mean_losses(record: Record, alone: bool) -> jax.Array:
    """`[tasks, pairs, num_steps + 1]`, of each pair; NaN behind the first episode where `alone`."""
    losses = record.losses.mean(axis=-1)
    if alone:
        over = behind_first(record)
        over = jnp.concatenate([jnp.zeros_like(over[:1]), over])
        losses = jnp.where(over[..., None], jnp.nan, losses)
    return jnp.moveaxis(losses, 0, -1)


class Rollout(NamedTuple):
    """What all windows of an estimator have in common.

    Attributes:
        optimizer: the learned optimizer.
        num_steps: of a window.
        signs: what each member adds of the perturbation: (1, -1), or (0,) for an unperturbed one.
        redraw_every: the noise is drawn anew where the position in the episode is a multiple of
            this; `None`: at the start of each window.
        lengths: bounds (low, high) between which episode lengths are drawn, log-uniformly.
        objective: (params, batch) -> scalar, what the meta-loss is made of; `None`: the task's
            loss. It need not be differentiable.
        told: length of an episode -> what the optimizer is told as `num_steps`; `None`: nothing.
    """

    optimizer: LearnedOptimizer
    num_steps: int
    signs: tuple[float, ...]
    redraw_every: int | None
    lengths: tuple[int, int]
    objective: Objective | None
    told: Told | None


def initial_params(task: Task, episodes: Episodes, keys: Key) -> Params:
    """theta_0 for each task's instance, `[tasks, ...]`."""

    def one(instance, key):
        return task.init(instance, jax.random.split(key, 3)[1])

    return jax.vmap(one)(episodes.instance, keys)


def start_pairs(
    task: Task,
    optimizer: LearnedOptimizer,
    meta_params: MetaParams,
    episodes: Episodes,
    keys: Key,
    noise_keys: Key,
    num_members: int,
) -> Pairs:
    """Pairs for `noise_keys` `[tasks, pairs]` that the first window will start."""
    params = initial_params(task, episodes, keys)
    opt_state = jax.vmap(optimizer.transform(meta_params).init)(params)
    shape = (*noise_keys.shape, num_members)

    def repeat(leaf):
        return jnp.broadcast_to(leaf[:, None, None], (*shape, *leaf.shape[1:]))

    params, opt_state = jax.tree.map(repeat, (params, opt_state))
    return Pairs(params, opt_state, noise_keys, jnp.ones(noise_keys.shape, bool))


def run_window(
    rollout: Rollout,
    task: Task,
    meta_params: MetaParams,
    episodes: Episodes,
    pairs: Pairs,
    keys: WindowKeys,
    draw: Draw,
) -> tuple[Episodes, Pairs, Record]:
    """`rollout.num_steps` inner steps of all pairs, with restarts where episodes are over."""
    steps = rollout.num_steps
    step_keys = jax.vmap(lambda k: jax.random.split(k, steps + 1))(keys.steps).swapaxes(0, 1)

    def renew(episodes, pairs, eps, number):
        return _renew(rollout, task, meta_params, episodes, pairs, eps, keys, draw, number)

    def inner_step(carry, inputs):
        episodes, pairs, eps = carry
        number, key = inputs
        seen = losses, values, *_ = _look(rollout, task, episodes, pairs, key)
        due = _ended(episodes)
        if rollout.redraw_every is not None:
            due |= episodes.position % rollout.redraw_every == 0
        never = jnp.zeros(pairs.stale.shape, bool)

        def anew():
            *after, redrawn, restarted = renew(episodes, pairs, eps, number)
            return *after, _look(rollout, task, after[0], after[1], key), redrawn, restarted

        episodes, pairs, eps, seen, redrawn, restarted = jax.lax.cond(
            (number > 0) & due.any(), anew, lambda: (episodes, pairs, eps, seen, never, never)
        )
        pairs = _advance(rollout, task, meta_params, episodes, pairs, eps, seen)
        episodes = episodes._replace(position=episodes.position + 1)
        where = episodes.position, episodes.length
        return (episodes, pairs, eps), (losses, values, seen[1], *where, redrawn, restarted)

    eps = draw_all(draw, pairs.keys)
    *carry, redrawn_first, restarted_first = renew(episodes, pairs, eps, 0)
    last: Any = jax.lax.scan(inner_step, tuple(carry), (jnp.arange(steps), step_keys[:steps]))
    (episodes, pairs, _), seen = last
    losses, values, starts, positions, lengths, redrawn, restarted = seen
    last_losses, last_values, *_ = _look(
        rollout, task, episodes, pairs, step_keys[steps], gradients=False
    )
    record = Record(
        jnp.concatenate([losses, last_losses[None]]),
        jnp.concatenate([values, last_values[None]]),
        starts,
        positions,
        lengths,
        redrawn.at[0].set(redrawn_first),
        restarted.at[0].set(restarted_first),
    )
    return episodes, pairs, record


def _ended(episodes):
    return episodes.position >= episodes.length


def _renew(rollout, task, meta_params, episodes, pairs, eps, keys, draw, number):
    """New episodes where they are over, new noise where it is due, before step `number`.

    Returns `(episodes, pairs, eps, redrawn, restarted)`.
    """
    ended = _ended(episodes)
    restarted = ended[:, None] | pairs.stale
    fresh_keys = fold(keys.fresh, number)
    position = jnp.where(ended, 0, episodes.position)
    if rollout.redraw_every is None:
        redrawn = jnp.full(restarted.shape, number == 0)
    else:
        # A pair that starts in the middle of an episode has no noise of that episode to keep.
        redrawn = pairs.stale | (position % rollout.redraw_every == 0)[:, None]
    noise_keys = select(redrawn, fold(keys.noise, number), pairs.keys)
    eps = draw_all(draw, noise_keys)

    def restart():
        new = first_episodes(task, fresh_keys, rollout.lengths)
        begun = select(ended, new, episodes)
        params = initial_params(task, begun, fresh_keys)

        def start(eps, sign, params):
            return rollout.optimizer.transform(perturbed(meta_params, eps, sign)).init(params)

        opt_state = each_member(start, "tp", "m", "t")(eps, jnp.asarray(rollout.signs), params)
        params = jax.tree.map(
            lambda new, old: jnp.broadcast_to(new[:, None, None], old.shape), params, pairs.params
        )
        return begun, select(restarted, (params, opt_state), (pairs.params, pairs.opt_state))

    episodes, (params, opt_state) = jax.lax.cond(
        restarted.any(), restart, lambda: (episodes, (pairs.params, pairs.opt_state))
    )
    pairs = Pairs(params, opt_state, noise_keys, jnp.zeros_like(pairs.stale))
    return episodes, pairs, eps, redrawn, restarted


def _look(rollout, task, episodes, pairs, keys, *, gradients=True):
    """`(losses, objectives, gradients, batch)` at the current parameters."""
    batch = jax.vmap(task.batch, (None, 0, 0))(task.data, episodes.instance, keys)

    def one(params, batch):
        if gradients:
            loss, slope = jax.value_and_grad(lambda p: scalar_loss(task, p, batch))(params)
        else:
            loss, slope = scalar_loss(task, params, batch), ()
        value = loss if rollout.objective is None else rollout.objective(params, batch)
        return loss.astype(jnp.float32), jnp.asarray(value, jnp.float32), slope

    return *each_member(one, "tpm", "t")(pairs.params, batch), batch


def _advance(rollout, task, meta_params, episodes, pairs, eps, seen):
    """One update of every optimizee by its own perturbed optimizer."""
    losses, _, gradients, batch = seen
    told = {} if rollout.told is None else {"num_steps": jax.vmap(rollout.told)(episodes.length)}

    def one(eps, sign, params, opt_state, loss, gradients, batch, told):
        tx = rollout.optimizer.transform(perturbed(meta_params, eps, sign))
        updates, opt_state = optax.with_extra_args_support(tx).update(
            gradients,
            opt_state,
            params,
            value=loss,
            grad=gradients,
            value_fn=lambda p: task.loss(p, batch),
            **told,
        )
        return optax.apply_updates(params, updates), opt_state

    params, opt_state = each_member(one, "tp", "m", "tpm", "tpm", "tpm", "tpm", "t", "t")(
        eps,
        jnp.asarray(rollout.signs),
        pairs.params,
        pairs.opt_state,
        losses,
        gradients,
        batch,
        told,
    )
    return pairs._replace(params=params, opt_state=opt_state)


def perturbed(meta_params: MetaParams, eps: MetaParams, sign: jax.Array) -> MetaParams:
    """phi + sign * epsilon, each leaf in its own dtype."""
    return jax.tree.map(lambda p, e: p + sign.astype(p.dtype) * e, meta_params, eps)
