"""The run of `make demo`: the quadratics of configs/quadratic.py, shorter; no data, no network."""

import ml_collections
from ml_collections import config_dict

from l2ljax.experiments import DEFAULTS


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict(DEFAULTS)
    config.initial = config_dict.placeholder(str)  # none; --config.initial=FILE is taken
    config.num_meta_updates = 1500
    config.num_tasks = 128
    config.task = {"name": "quadratic", "dim": 10}
    config.optimizer = {
        "name": "lstm",
        "hidden_sizes": (20, 20),
        "preprocess": {"name": "identity"},
        "output_scale": 0.1,
    }
    config.validation = {"num_tasks": 512, "every": 50}
    config.evaluation = {
        "num_tasks": 1024,
        "num_steps": 100,
        "num_tuning_tasks": 1024,
        "task": {},
    }
    return config
