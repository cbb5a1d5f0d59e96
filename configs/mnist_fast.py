"""An optimizer for the MLP of `configs/mnist.py` that is of use within a minute of meta-training.

Momentum whose rate and decay are learned as functions of the step: 16 numbers instead of an LSTM's
5,141. Windows span the whole episode, derivatives go through the optimizee's gradients too, the
weights of the meta-loss rise with the step, and the meta-rate falls from 0.1 to 0. It is for this
horizon: after step 100 it holds its last rate. docs/performance.md tells what each of these is
worth, and how far the LSTM gets meanwhile.
"""

import ml_collections

from l2ljax.command import bundled_config


def get_config() -> ml_collections.ConfigDict:
    config = bundled_config("mnist")
    config.num_meta_updates = 120
    config.weights = "rising"
    with config.ignore_type():
        config.optimizer = ml_collections.ConfigDict(
            {
                "name": "hyperparameters",
                "make_tx": {"function": "optax:sgd"},
                "start": {
                    "learning_rate": {"name": "log", "value": 0.1},
                    "momentum": {"name": "logit", "value": 0.9},
                },
                "schedule": "piecewise",
                "num_steps": 100,
            }
        )
        config.estimator = ml_collections.ConfigDict(
            {"name": "truncated_bptt", "backward": "scan", "second_derivatives": True}
        )
    config.meta_optimizer.learning_rate = 0.1
    config.meta_optimizer.restarts = ()
    config.validation = {"num_tasks": 16, "every": 10}
    config.checkpoint_every = 20
    return config
