"""The learning rate of an MNIST MLP, learned by windows: Vicol et al. (2021), section 5.3, shrunk.

SGD with momentum 0.9 and lr_t = e^a / (1 + t / 500)^{e^b} trains 784-100-100-10 on batches of 100
for T = 500 steps (theirs: 5,000); b is held, a is learned from 0.003 on, by windows of 10 steps,
for the sum of the losses. Truncation makes the rate low, as a window sees what a step costs and
not what it is good for.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import l2ljax
from l2ljax.base import LearnedOptimizer
from l2ljax.estimators import pes, truncated_bptt

DATA = os.environ.get("TFDS_DATA_DIR")
STEPS, WINDOW, UPDATES = 500, 10, 300
GRID = 10.0 ** (np.arange(-14, 1) / 6)
"""Six a decade, 0.0046 to 1."""


def decayed_sgd() -> LearnedOptimizer:
    """Of the logarithm of the first rate."""

    def transform(log_rate):
        return optax.with_extra_args_support(
            optax.chain(
                optax.trace(0.9),
                optax.scale_by_learning_rate(lambda t: jnp.exp(log_rate) / (1 + t / STEPS)),
            )
        )

    return LearnedOptimizer(lambda key: jnp.log(jnp.float32(0.003)), transform)


def learned(estimator, rate: float) -> float:
    """The rate after the meta-updates, mean of the logarithms of the last fifth."""
    meta_optimizer, optimizer = optax.adam(rate), estimator.optimizer

    @jax.jit
    def train(estimator):
        def update(carry, key):
            phi, opt_state, state = carry
            _, grads, state, _ = estimator.estimate(phi, state, key)
            updates, opt_state = meta_optimizer.update(grads, opt_state, phi)
            phi = optax.apply_updates(phi, updates)
            return (phi, opt_state, state), phi

        phi = optimizer.init(jax.random.key(0))
        state = estimator.init(jax.random.key(1), phi)
        keys = jax.random.split(jax.random.key(2), UPDATES)
        return jax.lax.scan(update, (phi, meta_optimizer.init(phi), state), keys)[1]

    return float(np.exp(np.asarray(train(estimator))[-UPDATES // 5 :].mean()))


@pytest.mark.long
@pytest.mark.skipif(not DATA, reason="TFDS_DATA_DIR, where MNIST is, is not set")
def test_pes_finds_the_learning_rate(capsys):
    """Within a third of a decade of the grid's best; `truncated_bptt` is shown beside it."""
    task = l2ljax.tasks.mlp(
        l2ljax.load_dataset("mnist", "train", data_dir=DATA),
        hidden_sizes=(100, 100),
        activation="relu",
        batch_size=100,
    )
    optimizer = decayed_sgd()
    sums = [
        float(
            l2ljax.evaluate(
                task,
                optimizer.transform(jnp.log(jnp.float32(rate))),
                jax.random.key(3),
                num_tasks=2,
                num_steps=STEPS,
            )[:, 1:].mean()
        )
        for rate in GRID
    ]
    place = int(np.nanargmin(sums))
    assert 0 < place < len(GRID) - 1
    windows = {"episode_length": STEPS, "unroll_length": WINDOW}
    by_pes = learned(
        pes(task, optimizer, num_tasks=2, num_perturbations=5, sigma=0.1, **windows), 3e-2
    )
    by_truncation = learned(
        truncated_bptt(
            task, optimizer, num_tasks=2, backward="scan", second_derivatives=True, stagger=True,
            **windows,
        ),
        3e-2,
    )  # fmt: skip
    with capsys.disabled():
        print(
            f"\nbest of the grid {GRID[place]:.4f}, pes {by_pes:.4f}, "
            f"truncated_bptt {by_truncation:.4f}"
        )
    assert abs(np.log10(by_pes / GRID[place])) < 1 / 3
