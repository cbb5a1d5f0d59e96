"""The paper's LSTM made to last: Adam's normalised inputs, the suite's tasks, random horizons.

RNNProp (Lv et al. 2017, arXiv:1703.03633) trained by truncated backpropagation on optimizees that
stand at staggered positions of episodes of 100 to 1,000 steps; judged as `configs/nominal.py` is.
"""

import ml_collections

from l2ljax.command import bundled_config


def get_config() -> ml_collections.ConfigDict:
    config = bundled_config("nominal")  # `l2ljax init-config nominal` prints its fields
    config.num_meta_updates = 10_000  # 13 minutes on four cores
    config.num_tasks = 2
    config.unroll_length = 20
    with config.ignore_type():
        config.optimizer = ml_collections.ConfigDict({"name": "rnnprop", "hidden_sizes": (20, 20)})
        config.estimator = ml_collections.ConfigDict(
            {
                "name": "l2ljax.experiments.mixtures:suite_backpropagation",
                "coordinate_share": 0.125,
                "tasks": (
                    "quadratic",
                    "valley-noisy",
                    "teacher-8",
                    "breast-cancer-linear",
                    "digits-relu-32",
                    "digits-tanh-64x32",
                    "digits-convnet",
                    "digits-autoencoder",
                    "mnist8-relu-32",
                    "mnist14-sigmoid-20",
                ),
            }
        )
    config.meta_optimizer.learning_rate = 1e-3
    config.validation.every = 1000
    return config
