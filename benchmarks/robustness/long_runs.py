"""What stability.py runs: many optimizees at once, a piece of their way at a time."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from l2ljax import LearnedOptimizer, Task, estimators, meta_train, optimizers
from l2ljax.experiments import experiment
from l2ljax.unrolling import OptimizeeState, init_optimizee, unroll

SMALL = {
    "name": "lstm",
    "hidden_sizes": [8],
    "preprocess": {"name": "identity"},
    "output_scale": 0.1,
}


def train_fresh(task: Task, num_meta_updates: int = 300) -> tuple[dict[str, Any], Any]:
    """A small optimizer after a short run, with nothing selected: specification, meta_params."""
    optimizer = optimizers.build(SMALL)
    estimator = estimators.truncated_bptt(
        task, optimizer, num_tasks=64, episode_length=100, unroll_length=20
    )
    result = meta_train(
        estimator,
        experiment.adam(num_meta_updates, 3e-3, clip_norm=1.0),
        optimizer.init(jax.random.key(0)),
        jax.random.key(1),
        num_meta_updates=num_meta_updates,
    )
    return SMALL, result.meta_params


def with_faults(task: Task, share: float) -> Task:
    """`task`, a share of whose minibatches is NaN, and so their losses and gradients."""

    def batch(data, instance, key):
        # One key for both: a minibatch at fault is lost, whatever it was.
        fault = jnp.where(jax.random.bernoulli(key, share), jnp.nan, 0.0)
        return jax.tree.map(lambda leaf: leaf + fault, task.batch(data, instance, key))

    return dataclasses.replace(task, batch=batch)


@functools.partial(jax.jit, static_argnums=(1, 4, 5), donate_argnums=3)
def advance(
    task: Task,
    optimizer: LearnedOptimizer,
    meta_params: Any,
    states: OptimizeeState,
    num_steps: int,
    at_once: int,
    key: jax.Array,
) -> tuple[OptimizeeState, jax.Array]:
    """`num_steps` more inner steps of all runs.

    Args:
        task, optimizer, meta_params: what they run.
        states: every leaf `[runs, ...]`; donated.
        num_steps: inner steps.
        at_once: runs side by side, which bounds memory.
        key: for their minibatches.

    Returns:
        the states after, and losses `[runs, num_steps + 1]`.
    """
    tx = optimizer.transform(meta_params)
    runs = (states, jax.random.split(key, len(jax.tree.leaves(states.params)[0])))

    def run(one):
        state, key = one
        return unroll(task, tx, state, key, num_steps)

    return jax.lax.map(run, runs, batch_size=at_once)


def largest_update(
    task: Task,
    optimizer: LearnedOptimizer,
    meta_params: Any,
    num_tasks: int = 16,
    num_steps: int = 100,
) -> float:
    """The largest size of any coordinate's update in `num_tasks` episodes of `num_steps`."""
    tx = _recording_largest(optimizer.transform(meta_params))

    @jax.jit
    def largest(task, keys):
        def one(key):
            state = init_optimizee(task, tx, key)
            return unroll(task, tx, state, key, num_steps)[0].opt_state[1]

        return jnp.max(jax.lax.map(one, keys))

    return float(largest(task, jax.random.split(jax.random.key(4), num_tasks)))


def _recording_largest(tx: optax.GradientTransformation):
    """`tx`, whose state has the largest size of an update beside it."""

    def update(updates, state, params=None, **extra_args):
        inner, largest = state
        updates, inner = tx.update(updates, inner, params, **extra_args)
        here = optax.tree.norm(updates, ord="inf")
        return updates, (inner, jnp.maximum(largest, here))

    return optax.GradientTransformationExtraArgs(
        lambda params: (tx.init(params), jnp.float32(0)), update
    )
