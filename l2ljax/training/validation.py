"""The score that meta-parameters are chosen by."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from l2ljax.base import Key, LearnedOptimizer, MetaParams, Task
from l2ljax.checks import (
    check_key,
    check_optimizer,
    check_positive_int,
    check_task,
    is_number,
    short,
)
from l2ljax.parallel import SPLIT, WHOLE, check_mesh, mean_over_tasks, over_tasks
from l2ljax.parallel.meshes import in_own_mesh
from l2ljax.unrolling import init_optimizee, unroll
from l2ljax.unrolling.joined import joined
from l2ljax.unrolling.side_by_side import map_side_by_side

PURPOSE = 0x76616C69  # "vali"
"""Folded into the key: with equal keys, `evaluate` and `tune` draw other optimizees."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Validation:
    """A fixed batch of episodes that scores meta-parameters; lower is better.

    The score is the weighted mean over steps of f(theta_t), averaged over `num_tasks` optimizees
    that are the same each time. A diverged optimizee makes it infinite.

    Attributes:
        task: where the optimizees come from; its data may differ from the training task's.
        optimizer: the learned optimizer.
        key: draws the optimizees and minibatches, others than `evaluate` with an equal key; take
            another than training's.
        num_tasks: optimizees.
        num_steps: inner steps of each.
        weights: w_1 ... w_T of the score, `num_steps` numbers of at least 0; default: all equal.
        at_once: optimizees run side by side at most, which bounds memory.
        mesh: devices to spread the optimizees over, see `truncated_bptt`.

    Raises:
        ValueError: for sizes or weights out of range, and a mesh that does not divide `num_tasks`.
        TypeError: for what is no task, optimizer or key.

    Example:
        A step of the learned rate 1/4 halves x, so that f(theta_t) is 4^-t; the mean of two:

        >>> import optax
        >>> sgd = LearnedOptimizer(lambda key: jnp.float32(0.25), lambda rate: optax.scale(-rate))
        >>> parabola = Task(init=lambda _, key: jnp.ones(()), loss=lambda x, _: x**2)
        >>> validation = Validation(
        ...     task=parabola, optimizer=sgd, key=jax.random.key(0), num_tasks=2, num_steps=2
        ... )
        >>> float(validation.score(jnp.float32(0.25)))  # (1 / 4 + 1 / 16) / 2
        0.15625
    """

    task: Task
    key: Key
    optimizer: LearnedOptimizer = dataclasses.field(metadata={"static": True})
    num_tasks: int = dataclasses.field(metadata={"static": True})
    num_steps: int = dataclasses.field(metadata={"static": True})
    weights: tuple[float, ...] | None = dataclasses.field(default=None, metadata={"static": True})
    at_once: int = dataclasses.field(default=64, metadata={"static": True})
    mesh: Mesh | None = dataclasses.field(default=None, metadata={"static": True})

    def __post_init__(self):
        for name in ("num_tasks", "num_steps", "at_once"):
            check_positive_int(name, getattr(self, name))
        if isinstance(self.weights, list):
            object.__setattr__(self, "weights", tuple(self.weights))
        check_optimizer("optimizer", self.optimizer)
        check_mesh(self.mesh, self.num_tasks, ())
        _check_weights(self.weights, self.num_steps)
        check_task(self.task)
        if isinstance(self.key, jax.Array | np.ndarray | int | float | str):
            check_key("key", self.key)  # on its way through JAX something else may stand for it

    @in_own_mesh
    def score(self, meta_params: MetaParams) -> jax.Array:
        """Float32 scalar."""
        weights = jnp.asarray(self.weights or (1.0,) * self.num_steps, jnp.float32)

        def mean_score(task, meta_params, keys):
            tx = joined(self.optimizer, meta_params)

            def episode(key):
                init_key, run_key = jax.random.split(key)
                optimizee = init_optimizee(task, tx, init_key)
                return unroll(task, tx, optimizee, run_key, self.num_steps)[1]

            state = jax.eval_shape(lambda key: init_optimizee(task, tx, key), keys[0])
            losses = map_side_by_side(episode, keys, state[1:], self.at_once)
            score = jnp.mean(losses[:, 1:].astype(jnp.float32) @ (weights / weights.sum()))
            return mean_over_tasks(score, self.mesh)

        keys = jax.random.split(jax.random.fold_in(self.key, PURPOSE), self.num_tasks)
        score = over_tasks(mean_score, self.mesh, (WHOLE, WHOLE, SPLIT), WHOLE)(
            self.task, meta_params, keys
        )
        return jnp.where(jnp.isfinite(score), score, jnp.inf)


def _check_weights(weights: Any, num_steps: int) -> None:
    """Refuses what are no numbers of at least 0, one per inner step, of which one is above 0."""
    if weights is None:
        return
    expected = f"weights must be a tuple of {num_steps} numbers of at least 0, one per inner step"
    if not isinstance(weights, tuple):
        raise TypeError(
            f"{expected}, got {short(weights)}; of an array, give tuple(array.tolist())."
        )
    if len(weights) != num_steps:
        raise ValueError(f"{expected}, got {len(weights)} entries.")
    for weight in weights:
        if not is_number(weight) or weight < 0:
            raise ValueError(f"{expected}, got {short(weight)} among them.")
    if not any(weights):
        raise ValueError(f"{expected}, got zeros alone; at least one must be above 0.")
