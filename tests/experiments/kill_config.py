"""A small run of each estimator, for `kill.py`: `--config=tests/experiments/kill_config.py:pes`."""

import ml_collections

from l2ljax.experiments import DEFAULTS

NUM_META_UPDATES = 400
STAGES = (100, 300)  # where one of the curriculum ends and the next begins
NOISE = {"num_perturbations": 2, "sigma": 0.05}
INSIDE = NOISE | {"episode_length": [5, 17]}  # episodes end inside windows, lengths are drawn
ESTIMATORS = {
    "truncated_bptt": {"name": "truncated_bptt"},
    "staggered": {"name": "truncated_bptt", "episode_length": [4, 20], "stagger": True},
    "es": {"name": "es", **INSIDE},
    "pes": {"name": "pes", **INSIDE},
    "nres": {"name": "nres", **INSIDE},
    "gpes": {"name": "gpes", "reuse_length": 6, **INSIDE},
    "full_es": {"name": "full_es", **NOISE},
    "imitation": {
        "name": "imitation",
        "teacher": {"name": "optax:adam", "learning_rate": 0.1},
        "stagger": True,
    },
    "mixture": {
        "name": "mixture",
        "estimators": {
            "narrow": {"name": "pes", **INSIDE},
            "wide": {"name": "truncated_bptt", "task": {"name": "quadratic", "dim": 5}},
        },
        "probabilities": {"narrow": 1.0, "wide": 2.0},
    },
    "curriculum": {
        "name": "curriculum",
        "stages": [
            [STAGES[0], {"name": "truncated_bptt", "episode_length": 4}],
            [STAGES[1] - STAGES[0], {"name": "nres", **INSIDE}],
            [None, {"name": "truncated_bptt", "episode_length": 40, "unroll_length": 8}],
        ],
    },
}
"""Name -> specification: one of each in `l2ljax.estimators.BUILDERS`."""


def get_config(name: str) -> ml_collections.ConfigDict:
    """400 meta-updates on quadratics; checkpoints, records and validations seldom coincide."""
    config = ml_collections.ConfigDict(DEFAULTS)
    config.num_meta_updates = NUM_META_UPDATES
    config.num_tasks = 4
    config.episode_length = 20
    config.unroll_length = 20 if name == "full_es" else 4
    config.task = {"name": "quadratic", "dim": 3}
    config.optimizer = {"name": "lstm", "hidden_sizes": (4,), "preprocess": {"name": "identity"}}
    config.estimator = ESTIMATORS[name]
    config.checkpoint_every = 7  # no divisor of anything else: most moments are in a save
    config.validation = {"num_tasks": 8, "every": 30}
    config.evaluation = {"num_tasks": 4, "num_steps": 20, "num_tuning_tasks": 2, "task": {}}
    return config
