"""What is meta-trained to be of use soon, and on how many optimizees it is judged."""

from typing import Any

JUDGE = 20_161
"""Seed of the judge's optimizees and of those that baselines are tuned on; no run has it."""

SIZES = {
    "quadratics": {"num_tasks": 1024, "num_tuning_tasks": 1024},
    "mnist": {"num_tasks": 64, "num_tuning_tasks": 32, "final_batches": 20},
    "neural-art": {
        "num_tasks": 24,
        "num_tuning_tasks": 4,
        "at_once": 8,
        # around the best of docs/results.md, and wider where one is best at the edge
        "learning_rates": {
            "sgd": (4.64, 10.0, 21.5),
            "rmsprop": (0.00464, 0.01, 0.0215),
            "adam": (0.0215, 0.0464, 0.1),
            "nag": (2.15, 4.64, 10.0),
        },
    },
    "cifar10": {
        "num_tasks": 16,
        "num_tuning_tasks": 4,
        "at_once": 8,
        "final_batches": 20,
        # around the best of docs/results.md, out of 19 each; wider where one is best at the edge
        "learning_rates": {
            "sgd": (0.215, 0.464, 1.0),
            "rmsprop": (0.00215, 0.00464, 0.01),
            "adam": (0.00215, 0.00464, 0.01),
            "nag": (0.0464, 0.1, 0.215),
        },
    },
}
"""As `compare` takes them; the final loss is that over `final_batches` minibatches, if given."""

SLOW = {"meta_optimizer.learning_rate": 3e-3}
WHOLE = {"name": "truncated_bptt", "coordinate_share": 0.125}
ONE_LAYER = {"optimizer.hidden_sizes": (20,), "meta_optimizer.learning_rate": 1e-2}
LSTM = {
    "num_meta_updates": 500,
    "weights": "rising",
    "meta_optimizer.restarts": (),
    "validation": {"num_tasks": 8, "every": 50},
}
CAREFUL = {"meta_optimizer.learning_rate": 1e-3}
ADAPTING = {
    "initial": "lstm-mnist",
    "num_meta_updates": 20,
    "validation": {"num_tasks": 8, "every": 10},
    **CAREFUL,
}
WINDOWS_FIRST = {
    "num_meta_updates": 1500,
    "meta_optimizer.learning_rate": 5e-3,
    "validation": {"num_tasks": 8, "every": 100},
    "estimator": {
        "name": "curriculum",
        "stages": [[800, {**WHOLE, "unroll_length": 20, "weights": "all"}], [None, WHOLE]],
    },
}
ADAM_SCHEDULE = {
    "num_meta_updates": 60,
    "unroll_length": 128,
    "weights": "rising",
    "optimizer": {
        "name": "hyperparameters",
        "make_tx": {"function": "optax:adam"},
        "start": {
            "learning_rate": {"name": "log", "value": 0.01},
            "b1": {"name": "logit", "value": 0.9},
        },
        "schedule": "piecewise",
        "num_steps": 128,
    },
    "estimator": {"name": "truncated_bptt", "backward": "scan", "second_derivatives": True},
    "initial": None,
    "meta_optimizer.learning_rate": 0.1,
    "validation": {"num_tasks": 4, "every": 10},
}
FIRST_PART = {
    "task.batch_size": 32,
    "num_meta_updates": 30,
    "meta_optimizer.learning_rate": 0.15,
    "meta_optimizer.restarts": (),
    "validation": {"num_tasks": 4, "every": 10},
    "estimator": {"name": "truncated_bptt", "backward": "scan", "second_derivatives": True},
}
SECOND_PART = {
    **FIRST_PART,
    "task.batch_size": 128,
    "num_meta_updates": 12,
    "meta_optimizer.learning_rate": 0.2,
    "validation": {"num_tasks": 2, "every": 6},
}
RECIPES: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "quadratics": {
        "fast": ("quadratic_fast", {}),
        "fast but rate 0.003": ("quadratic_fast", SLOW),
        "fast but one layer": ("quadratic_fast", {"optimizer.hidden_sizes": (20,)}),
        "demo": ("demo", {}),
        "from the bundled LSTM": (
            "quadratic_fast",
            {"initial": "lstm-quadratic", "num_meta_updates": 50, **CAREFUL},
        ),
    },
    "mnist": {
        "fast": ("mnist_fast", {}),
        "fast but even weights": ("mnist_fast", {"weights": "all"}),
        "fast but first derivatives": ("mnist_fast", {"estimator.second_derivatives": False}),
        "fast but constants": ("mnist_fast", {"optimizer.schedule": None}),
        "from the bundled LSTM": ("mnist", LSTM | ADAPTING),
        "LSTM of one layer": ("mnist", LSTM | ONE_LAYER),
        "LSTM of two layers and windows of 20 first": ("mnist", LSTM | WINDOWS_FIRST),
    },
    "neural-art": {
        "Adam with a learned schedule": ("neural_art", ADAM_SCHEDULE),
        "from the bundled LSTM": (
            "neural_art",
            {
                "initial": "lstm-neural-art",
                "num_meta_updates": 20,
                "validation": {"num_tasks": 4, "every": 10},
                **CAREFUL,
            },
        ),
        "LSTM in windows of 16": ("neural_art", {"num_meta_updates": 1000}),
    },
    "cifar10": {
        "fast": ("cifar10_fast", {}),
        "fast but minibatches of 32": ("cifar10_fast", FIRST_PART),
        "fast but minibatches of 128": ("cifar10_fast", SECOND_PART),
        "from the bundled LSTMs": (
            "cifar10",
            {
                "initial": {"conv": "lstm-cifar10", "fc": "lstm-cifar10"},
                "task.batch_size": 128,
                "weights": "rising",
                "num_meta_updates": 10,
                "meta_optimizer.learning_rate": 1e-5,
                "meta_optimizer.restarts": (),
                "validation": {"num_tasks": 2, "every": 5},
            },
        ),
        "two LSTMs in windows of 20": ("cifar10", {}),
    },
}
"""Work -> recipe -> (configuration, fields that differ, such as `"task.dim"`); the first is the one
to use."""
