"""Painting photographs in one style (Andrychowicz et al. 2016, section 3.4).

`--config.style=FILE` and `--config.content=DIR` train on a user's own pictures. Evaluations are on
photographs that meta-training never saw; `--config.evaluation.task.content=DIR` takes others. With
VGG-19: `--config.task.extractor.name=vgg19 --config.task.extractor.path=FILE`.

Windows of 16 steps, and the backward pass visits a quarter of the pixels. The bundled optimizer
went on from there with the paper's windows of 32 and weights that rise with the step:
docs/results.md has the command.
"""

import ml_collections
from ml_collections import config_dict

from l2ljax.experiments import DEFAULTS


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict(DEFAULTS)
    config.num_meta_updates = 3000
    config.meta_optimizer = DEFAULTS["meta_optimizer"] | {"learning_rate": 2e-3}
    config.num_tasks = 1
    config.episode_length = 128
    config.unroll_length = 16
    config.content = "train"
    config.style = "retina"
    config.task = {
        "name": "neural_art",
        "content": config.get_ref("content"),
        "style": config.get_ref("style"),
        "size": 64,
        "content_weight": 1.0,
        "style_weight": 2.0,
        "smoothness": 3.0,
        "extractor": {"name": "cifar10", "path": config_dict.placeholder(str)},
    }
    config.optimizer = {
        "name": "lstm",
        "hidden_sizes": (20, 20),
        "preprocess": {"name": "log_sign", "p": 10.0},
        "output_scale": 0.1,
    }
    config.initial = "lstm-mnist"
    config.estimator = DEFAULTS["estimator"] | {"coordinate_share": 0.25}
    config.validation = {"num_tasks": 4, "every": 200}
    config.checkpoint_every = 50
    config.evaluation = {
        "num_tasks": 64,
        "num_steps": 128,
        "num_tuning_tasks": 8,
        "at_once": 8,
        "task": {"content": "test"},
    }
    return config
