"""An optimizer without a learning rate or a horizon: a trusted step whose size is learned.

Meta-trained by persistent evolution strategies on the suite's training tasks; selected by the
loss of a digits MLP along 1,000 steps.
"""

import ml_collections

from l2ljax.experiments.experiment import DEFAULTS


def get_config() -> ml_collections.ConfigDict:
    """The configuration; every field is a flag, `--config.num_meta_updates=100`."""
    config = ml_collections.ConfigDict(DEFAULTS)
    config.num_meta_updates = 8_000
    config.num_tasks = 2
    config.episode_length = 1000
    config.unroll_length = 50
    config.task = {
        "name": "image_mlp",
        "dataset": {"name": "digits", "split": "train"},
        "hidden_sizes": (48,),
        "batch_size": 64,
    }
    config.optimizer = {"name": "nominal", "hidden_sizes": (8,)}
    config.estimator = {
        "name": "l2ljax.experiments.mixtures:suite_mixture",
        "num_perturbations": 8,
        "sigma": 0.05,
        "tasks": (
            "quadratic",
            "valley-noisy",
            "teacher-8",
            "digits-relu-32",
            "digits-tanh-64x32",
            "digits-convnet",
            "cifar8-tanh-128",
            "bytes-transformer-16",
        ),
    }
    config.checkpoint_every = 1000
    config.meta_optimizer = {
        "name": "adam",
        "learning_rate": 1.5e-3,
        "clip_norm": 1.0,
        "schedule": "cosine",
        "restarts": (),
    }
    config.validation = {"num_tasks": 4, "every": 500}
    config.evaluation = {"num_tasks": 16, "num_steps": 1000, "num_tuning_tasks": 2}
    return config
