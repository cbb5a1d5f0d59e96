"""Batches of optimizees: drawn, and drawn anew where they diverged."""

import jax

from l2ljax.base import Key, PyTree, Task
from l2ljax.estimators.divergence import keep_tasks
from l2ljax.unrolling import OptimizeeState, sample_optimizee


def sample_batch(task: Task, keys: Key) -> tuple[PyTree, PyTree]:
    """One optimizee for each of `keys`: instances and theta_0, with a leading axis."""
    return jax.vmap(lambda k: sample_optimizee(task, k))(keys)


def renewed(task: Task, keys: Key, fine: jax.Array, optimizees: OptimizeeState) -> OptimizeeState:
    """New optimizees in place of those that are not `fine`, with the optimizer states they had."""
    # 2, as drawing the lost one has split its key, which is as folding in 0 and 1
    new = sample_batch(task, jax.vmap(lambda k: jax.random.fold_in(k, 2))(keys))
    instances, params = keep_tasks(fine, (optimizees.instance, optimizees.params), new)
    return OptimizeeState(instances, params, optimizees.opt_state)
