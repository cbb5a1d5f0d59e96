"""An optimizer for the convolutional network of `configs/cifar10.py`, by minutes of meta-training.

Momentum whose rate and decay are learned as functions of the step, as in `configs/mnist_fast.py`,
convolutions and fully connected layers apart: 32 numbers. They find their shape in thirty
meta-updates on minibatches of 32, a quarter of the price, whose rates are too low for the
evaluation's 128; thirty on those set them right. docs/performance.md tells how far that gets.
"""

import copy

import ml_collections
from ml_collections import config_dict

from l2ljax.command import bundled_config


def get_config() -> ml_collections.ConfigDict:
    config = bundled_config("cifar10")
    config.num_meta_updates = 60
    config.unroll_length = 100
    config.weights = "rising"
    config.task.batch_size = 128
    fast = bundled_config("mnist_fast")
    momentum, whole = fast.optimizer.to_dict(), fast.estimator.to_dict()
    cheap = {**whole, "task": {**config.task.to_dict(), "batch_size": 32}}
    with config.ignore_type():
        config.initial = config_dict.placeholder(str)  # none; --config.initial=FILE is taken
        config.optimizer.optimizers = {name: copy.deepcopy(momentum) for name in ("conv", "fc")}
        config.estimator = ml_collections.ConfigDict(
            {"name": "curriculum", "stages": ((30, cheap), (None, whole))}
        )
    config.meta_optimizer.learning_rate = 0.2
    config.meta_optimizer.restarts = (30,)
    config.validation = {"num_tasks": 2, "every": 10}
    config.checkpoint_every = 5
    return config
