"""Tasks from tasks: scales, noise and helper terms, each a function Task -> Task.

They compose, `random_scale(noisy_labels(task, 0.1, 10), 1e-3, 1e3)`, and each leaves the task's
data where they are. What a transform draws for one optimizee is kept in the instance and reaches
the loss with the batch. Training over many scales is what lets a learned optimizer be used untuned
(Lv et al. 2017, arXiv:1703.03633, section 4; Moudgil et al. 2025, arXiv:2501.12670). `as_task`
makes a task of a model and a loss.
"""

from l2ljax.tasks.transforms._helper import convex_helper
from l2ljax.tasks.transforms._models import as_task
from l2ljax.tasks.transforms._noise import es_gradients, noisy_gradients, noisy_labels
from l2ljax.tasks.transforms._scales import random_scale, scale_loss

__all__ = [
    "as_task",
    "convex_helper",
    "es_gradients",
    "noisy_gradients",
    "noisy_labels",
    "random_scale",
    "scale_loss",
]
