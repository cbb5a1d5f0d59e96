"""CIFAR-10 with a single LSTM for all parameters, which the paper found worse than two."""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    cifar10 = runpy.run_path(str(Path(__file__).with_name("cifar10.py")))
    config = cifar10["get_config"]()
    with config.ignore_type():
        config.optimizer = config.optimizer.optimizers.conv.to_dict()
        config.initial = "lstm-mnist"
    return config
