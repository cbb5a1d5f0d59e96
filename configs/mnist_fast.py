"""An optimizer for the MLP of `configs/mnist.py` that is of use after two minutes of meta-training.

One layer of 20 units, half the work of the paper's two; windows that span the whole episode; a
meta-loss whose weights rise with the step, as what is asked of it is the loss at the end; and a
meta-rate of 0.01 that falls to 0 within the few hundred meta-updates. docs/performance.md tells
what each of these is worth.
"""

import ml_collections

from l2ljax.command import bundled_config


def get_config() -> ml_collections.ConfigDict:
    config = bundled_config("mnist")
    config.num_meta_updates = 500
    config.weights = "rising"
    config.optimizer.hidden_sizes = (20,)
    config.meta_optimizer.learning_rate = 1e-2
    config.meta_optimizer.restarts = ()
    config.validation = {"num_tasks": 8, "every": 50}
    config.checkpoint_every = 50
    return config
