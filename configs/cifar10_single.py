"""CIFAR-10 with a single LSTM for all parameters, which the paper found worse than two."""

import ml_collections

from l2ljax.command import bundled_config


def get_config() -> ml_collections.ConfigDict:
    config = bundled_config("cifar10")  # `l2ljax init-config cifar10` prints its fields
    with config.ignore_type():
        config.optimizer = config.optimizer.optimizers.conv.to_dict()
        config.initial = "lstm-mnist"
    return config
