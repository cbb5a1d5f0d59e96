"""The meta-gradient by differentiating the rollout, step by step."""

import jax
import jax.numpy as jnp

from l2ljax.base import LearnedOptimizer, MetaParams, Task
from l2ljax.estimators.divergence import all_finite, keep_tasks, select
from l2ljax.estimators.inside import unroll_inside
from l2ljax.estimators.windows import Window
from l2ljax.unrolling import OptimizeeState, unroll
from l2ljax.unrolling.remat import Remat


def scanned_meta_gradient(
    task: Task,
    optimizer: LearnedOptimizer,
    meta_params: MetaParams,
    window: Window,
    *,
    second_derivatives: bool,
    remat: Remat,
) -> tuple[MetaParams, OptimizeeState, jax.Array, jax.Array]:
    """As `l2ljax.estimators.recorded.recorded_meta_gradient`, for any learned optimizer.

    Args:
        task, optimizer, meta_params: what is differentiated.
        window: what it starts from; `opt_state` is the transformation's own, with a leading axis.
        second_derivatives: also through the optimizee's gradients.
        remat: what the backward pass keeps.
    """
    num_steps, inside = window.weights.shape[0], window.inside
    options = {"second_derivatives": second_derivatives, "remat": remat}

    def meta_loss(meta_params, optimizee, key, fresh_key):
        # The restart is inside the differentiated function: an initial optimizer state may depend
        # on the meta-parameters.
        tx = optimizer.transform(meta_params)
        opt_state = select(window.restart, tx.init(optimizee.params), optimizee.opt_state)
        optimizee = optimizee._replace(opt_state=opt_state)
        if inside is None:
            optimizee, losses = unroll(task, tx, optimizee, key, num_steps, **options)
        else:
            optimizee, losses = unroll_inside(
                task, tx, optimizee, key, inside, fresh_key, **options
            )
        losses = losses.astype(jnp.float32)
        return losses[1:] @ window.weights, (optimizee, losses)

    # Each task's meta-gradient by itself, so that one that is not finite spoils no other.
    def of_one(optimizee, key, fresh_key):
        return jax.grad(meta_loss, has_aux=True)(meta_params, optimizee, key, fresh_key)

    fresh_keys = None if inside is None else inside.keys
    meta_grads, (after, losses) = jax.vmap(of_one)(window.optimizees, window.keys, fresh_keys)
    fine = all_finite((losses, meta_grads))
    meta_grads = keep_tasks(fine, meta_grads, jax.tree.map(jnp.zeros_like, meta_grads))
    fresh = jax.vmap(optimizer.transform(meta_params).init)(after.params)
    after = after._replace(opt_state=keep_tasks(fine, after.opt_state, fresh))
    return jax.tree.map(lambda g: g.mean(axis=0), meta_grads), after, losses, fine
