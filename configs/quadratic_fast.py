"""The quadratics of `configs/quadratic.py`, in a fifth of its meta-updates.

A meta-rate of 0.01 that falls to 0 within them; docs/performance.md tells what that is worth.
"""

import ml_collections

from l2ljax.command import bundled_config


def get_config() -> ml_collections.ConfigDict:
    config = bundled_config("quadratic")
    config.num_meta_updates = 500
    config.meta_optimizer.learning_rate = 1e-2
    config.validation = {"num_tasks": 256, "every": 25}
    config.checkpoint_every = 100
    return config
