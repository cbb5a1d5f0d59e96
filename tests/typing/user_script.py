"""What a user writes: a task, an optimizer and an estimator of their own, for the type checker.

It runs too (tests/test_typing.py).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

import l2ljax


def make_task() -> l2ljax.Task:
    """Parabolas with random centres."""
    return l2ljax.Task(
        sample=lambda data, key: jax.random.normal(key, (3,)),
        init=lambda centre, key: jnp.zeros(3),
        loss=lambda theta, centre: jnp.sum((theta - centre) ** 2),
    )


def make_optimizer() -> l2ljax.LearnedOptimizer:
    """SGD with a learned rate: any transformation of Optax may be returned."""

    def transform(log_rate: jax.Array) -> optax.GradientTransformation:
        return optax.scale(-jnp.exp(log_rate))

    return l2ljax.LearnedOptimizer(init=lambda key: jnp.log(0.1), transform=transform)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class WholeEpisodes(l2ljax.GradientEstimator):
    """Backpropagation through fresh episodes of one optimizee."""

    task: l2ljax.Task
    optimizer: l2ljax.LearnedOptimizer = dataclasses.field(metadata={"static": True})

    def init(self, key: jax.Array, meta_params: Any) -> tuple[()]:
        return ()

    def estimate(
        self, meta_params: Any, state: tuple[()], key: jax.Array
    ) -> tuple[jax.Array, Any, tuple[()], dict[str, jax.Array]]:
        def meta_loss(meta_params: Any) -> jax.Array:
            tx = self.optimizer.transform(meta_params)
            start = l2ljax.init_optimizee(self.task, tx, key)
            _, losses = l2ljax.unroll(self.task, tx, start, key, 5)
            return losses.sum()

        loss, gradient = jax.value_and_grad(meta_loss)(meta_params)
        return loss, gradient, state, {}


def main() -> float:
    """Meta-trains; returns the learned rate's logarithm."""
    optimizer = make_optimizer()
    estimator = WholeEpisodes(task=make_task(), optimizer=optimizer)
    start = optimizer.init(jax.random.key(0))
    result = l2ljax.meta_train(
        estimator, optax.adam(0.05), start, jax.random.key(1), num_meta_updates=30
    )
    return float(result.meta_params)
