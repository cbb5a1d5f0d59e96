"""Training a convolutional network on CIFAR-10 (Andrychowicz et al. 2016, section 3.3).

Two LSTMs, one for convolutional and one for fully connected parameters, that both start from the
one trained on MNIST. `configs/cifar10_single.py` has one LSTM for all. For LSTM-sub give the labels
that the subset leaves out: `--config.task.dataset.labels="(5,6,7,8,9)"`.

Windows of 20 steps on minibatches of 32, a fifth of the time of the paper's 128 an inner step. The
bundled optimizers went on from there with the 128 of the evaluation and weights that rise with the
step: docs/results.md has the command.

Optimizees of an evaluation are trained on the test images, which meta-training never saw; their
accuracy is measured on training images, which they never saw.
"""

import copy

import ml_collections

from l2ljax.experiments import DEFAULTS


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict(DEFAULTS)
    config.num_meta_updates = 2500
    config.meta_optimizer = DEFAULTS["meta_optimizer"] | {"learning_rate": 2e-3}
    config.num_tasks = 1
    config.task = {
        "name": "convnet",
        "dataset": {"name": "cifar10", "split": "train", "labels": tuple(range(10))},
        "batch_size": 32,
    }
    lstm = {
        "name": "lstm",
        "hidden_sizes": (20, 20),
        "preprocess": {"name": "log_sign", "p": 10.0},
        "output_scale": 0.1,
    }
    config.optimizer = {
        "name": "partition",
        # Two copies: a flag for one of them must not change the other.
        "optimizers": {"conv": copy.deepcopy(lstm), "fc": copy.deepcopy(lstm)},
        "labels": "conv_fc",
    }
    config.initial = {"conv": "lstm-mnist", "fc": "lstm-mnist"}
    config.estimator = DEFAULTS["estimator"] | {"coordinate_share": 0.25}
    config.validation = {"num_tasks": 8, "every": 250}
    config.checkpoint_every = 125
    config.evaluation = {
        "num_tasks": 32,
        "num_steps": 100,
        "num_tuning_tasks": 4,
        "at_once": 8,
        "task": {"dataset": {"name": "cifar10", "split": "test"}, "batch_size": 128},
        "unseen": {"name": "cifar10", "split": "train[:2000]"},
    }
    return config
