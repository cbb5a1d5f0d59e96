"""An optimizer for the pictures of `configs/neural_art.py` after few minutes of meta-training.

Adam whose rate and momentum are learned as functions of the step, as in `configs/mnist_fast.py`; it
is for this horizon.
"""

import ml_collections
from ml_collections import config_dict

from l2ljax.command import bundled_config


def get_config() -> ml_collections.ConfigDict:
    config = bundled_config("neural_art")
    config.num_meta_updates = 60
    config.unroll_length = config.episode_length
    config.weights = "rising"
    with config.ignore_type():
        config.optimizer = ml_collections.ConfigDict(
            {
                "name": "hyperparameters",
                "make_tx": {"function": "optax:adam"},
                "start": {
                    "learning_rate": {"name": "log", "value": 0.01},
                    "b1": {"name": "logit", "value": 0.9},
                },
                "schedule": "piecewise",
                "num_steps": 128,
            }
        )
        config.estimator = ml_collections.ConfigDict(
            {"name": "truncated_bptt", "backward": "scan", "second_derivatives": True}
        )
        config.initial = config_dict.placeholder(str)
    config.meta_optimizer.learning_rate = 0.1
    config.validation = {"num_tasks": 4, "every": 10}
    config.checkpoint_every = 10
    return config
