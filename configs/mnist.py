"""Training a 1x20 sigmoid MLP on MNIST (Andrychowicz et al. 2016, section 3.2).

Windows span the whole episode and the backward pass visits an eighth of the coordinates: that
learns better optimizers than the paper's windows of 20, which are one flag away:
`--config.unroll_length=20`.
"""

import ml_collections
from ml_collections import config_dict

from l2ljax.experiments import DEFAULTS


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict(DEFAULTS)
    config.initial = config_dict.placeholder(str)  # none; --config.initial=FILE is taken
    config.num_meta_updates = 3500
    config.meta_optimizer = DEFAULTS["meta_optimizer"] | {"restarts": (2000,)}
    config.num_tasks = 1
    config.unroll_length = 100
    config.task = {
        "name": "mlp",
        "dataset": {"name": "mnist", "split": "train"},
        "hidden_sizes": (20,),
        "activation": "sigmoid",
        "batch_size": 128,
        "init_stddev": config_dict.placeholder(float),  # none: scaled by fan-in
    }
    config.optimizer = {
        "name": "lstm",
        "hidden_sizes": (20, 20),
        "preprocess": {"name": "log_sign", "p": 10.0},
        "output_scale": 0.1,
    }
    config.estimator = DEFAULTS["estimator"] | {"coordinate_share": 0.125}
    config.validation = {"num_tasks": 16, "every": 200}
    config.checkpoint_every = 100
    config.evaluation = {"num_tasks": 128, "num_steps": 100, "num_tuning_tasks": 32, "task": {}}
    return config
