"""A configuration and sizes that take no time."""

from l2ljax.experiments.experiment import DEFAULTS

TINY = {
    **DEFAULTS,
    "num_meta_updates": 1,
    "num_tasks": 1,
    "episode_length": 2,
    "unroll_length": 2,
    "task": {
        "name": "mlp",
        "dataset": {"name": "digits", "split": "train"},
        "hidden_sizes": [3],
        "batch_size": 32,
    },
    "optimizer": {"name": "lstm", "hidden_sizes": [4]},
    "validation": {"num_tasks": 1, "every": 1},
    "evaluation": {"num_tasks": 2, "num_steps": 4, "num_tuning_tasks": 2, "task": {}},
}
SIZES = {"num_tuning_steps": 3, "final_batches": 2}
