"""Meta-updates by persistent evolution strategies: 32 perturbations, 50 steps, a 64-32-10 MLP.

The rules are learned_optimization's too: its AdafacMLPLOpt (here `small_fc((4, 4))`, held to its
numbers by `tests/optimizers/test_small_fc.py`) and Adam with learned hyperparameters. As there,
each pair has an optimizee and minibatches of its own, unless the variant says otherwise.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax

from l2ljax import optimizers, tasks
from l2ljax.base import LearnedOptimizer, Task
from l2ljax.estimators import pes
from l2ljax.parallel import task_mesh
from l2ljax.tasks.data import Images
from l2ljax.training import init_state, meta_step

PAIRS, STEPS, EPISODE = 32, 50, 1000


def adam() -> LearnedOptimizer:
    """Adam whose rate, decays and epsilon are learned."""
    values = {
        "learning_rate": optimizers.log(1e-3),
        "b1": optimizers.logit(0.9),
        "b2": optimizers.logit(0.999),
        "eps": optimizers.log(1e-8),
    }
    return optimizers.hyperparameters(optax.adam, values)


def works(
    work: Callable[..., Any], compiled: Callable[..., Any], images_like: Callable[..., Images]
) -> dict[str, dict[str, Callable[[], Any]]]:
    """Name of the work -> variant -> what to measure; made of what `works` has."""

    def task() -> Task:
        images = images_like((8, 8, 1))
        return tasks.mlp(images, hidden_sizes=(32,), activation="relu", batch_size=128)

    def update(optimizer: LearnedOptimizer, num_tasks: int = PAIRS, devices: int = 1):
        def make():
            estimator = pes(
                task(),
                optimizer,
                num_tasks=num_tasks,
                num_perturbations=PAIRS // num_tasks,
                episode_length=EPISODE,
                unroll_length=STEPS,
                sigma=0.01,
                mesh=task_mesh(num_tasks, devices),
            )
            meta_optimizer = optax.adam(1e-3)
            state = init_state(
                estimator, meta_optimizer, optimizer.init(jax.random.key(0)), jax.random.key(1)
            )
            program, report = compiled(meta_step, estimator, meta_optimizer, state)
            return lambda state: program(estimator, state)[0], state, report

        shapes = jax.eval_shape(task().init, (), jax.random.key(0))
        size = sum(leaf.size for leaf in jax.tree.leaves(shapes))
        return work(
            make=make, coordinates=2 * PAIRS * size, inner_steps=STEPS, share=None, runs=2 * PAIRS
        )

    return {
        "pes": {
            "small_fc": lambda: update(optimizers.small_fc((4, 4))),
            "small_fc, 2 devices": lambda: update(optimizers.small_fc((4, 4)), devices=2),
            "small_fc, one optimizee": lambda: update(optimizers.small_fc((4, 4)), num_tasks=1),
        },
        "pes-adam": {
            "learned adam": lambda: update(adam()),
            "learned adam, 2 devices": lambda: update(adam(), devices=2),
            "learned adam, one optimizee": lambda: update(adam(), num_tasks=1),
        },
    }
