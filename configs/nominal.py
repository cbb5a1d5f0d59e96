"""An optimizer without a learning rate or a horizon: a trusted step whose size is learned.

Meta-trained by noise-reuse evolution strategies on the suite's training tasks, each in random
units and for a random number of steps. The bundled `nominal-suite` took 12,000 meta-updates of this
recipe, 8 minutes of an H100, and 3 minutes more over longer episodes (docs/experiments.md); two
cores need fewer pairs (`--config.num_tasks=2 --config.estimator.num_perturbations=8`) and patience.
"""

import ml_collections

from l2ljax.experiments.experiment import DEFAULTS


def get_config() -> ml_collections.ConfigDict:
    """The configuration; every field is a flag, `--config.num_meta_updates=100`."""
    config = ml_collections.ConfigDict(DEFAULTS)
    config.num_meta_updates = 12_000
    config.num_tasks = 8
    config.episode_length = 1000
    config.unroll_length = 50
    config.task = {
        "name": "image_mlp",
        "dataset": {"name": "digits", "split": "train"},
        "hidden_sizes": (48,),
        "batch_size": 64,
    }
    config.optimizer = {"name": "nominal", "hidden_sizes": (16,)}
    config.estimator = {
        "name": "l2ljax.experiments.mixtures:suite_mixture",
        "num_perturbations": 64,
        "sigma": 0.02,
        "longest": 3000,
    }
    config.checkpoint_every = 1000
    config.meta_optimizer = {
        "name": "adam",
        "learning_rate": 5e-3,
        "clip_norm": 1.0,
        "schedule": "cosine",
        "restarts": (),
        "b1": 0.95,
    }
    config.validation = {"num_tasks": 4, "every": 500}
    config.evaluation = {"num_tasks": 16, "num_steps": 1000, "num_tuning_tasks": 2}
    return config
