"""The paper's LSTM made to last: Adam's normalised inputs, the suite's tasks, random horizons.

RNNProp (Lv et al. 2017, arXiv:1703.03633) trained by truncated backpropagation on optimizees that
stand at staggered positions of episodes of 100 to 1,000 steps.
"""

import ml_collections

from l2ljax.experiments.experiment import DEFAULTS


def get_config() -> ml_collections.ConfigDict:
    """The configuration; every field is a flag, `--config.num_meta_updates=100`."""
    config = ml_collections.ConfigDict(DEFAULTS)
    config.num_meta_updates = 40_000
    config.num_tasks = 2
    config.episode_length = 1000
    config.unroll_length = 20
    config.task = {
        "name": "image_mlp",
        "dataset": {"name": "digits", "split": "train"},
        "hidden_sizes": (48,),
        "batch_size": 64,
    }
    config.optimizer = {"name": "rnnprop", "hidden_sizes": (20, 20)}
    config.estimator = {
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
    config.checkpoint_every = 1000
    config.meta_optimizer = {
        "name": "adam",
        "learning_rate": 1e-3,
        "clip_norm": 1.0,
        "schedule": "cosine",
        "restarts": (),
        "b1": 0.95,
    }
    config.validation = {"num_tasks": 4, "every": 2000}
    config.evaluation = {"num_tasks": 16, "num_steps": 1000, "num_tuning_tasks": 2}
    return config
