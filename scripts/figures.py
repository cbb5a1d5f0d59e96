"""The paper's figures: what each shows, with which weights, and which configuration trains those.

`scripts/reproduce.py` makes them. `evaluation` replaces entries of the training configuration's own
(`l2ljax.comparison.SETTINGS`); rates are tuned for the 100 steps that were trained, also where
the curves go on.
"""

LONGER = {"num_tasks": 64, "num_steps": 200, "num_tuning_steps": 100}

FIGURES = {
    "quadratic": {
        "title": "Quadratics",
        "section": "3.1",
        "kind": "curves",
        "weights": "lstm-quadratic",
        "train": "configs/quadratic.py",
        "evaluation": {},
    },
    "mnist": {
        "title": "MNIST, 20 sigmoid units, as in training",
        "section": "3.2",
        "kind": "curves",
        "weights": "lstm-mnist",
        "train": "configs/mnist.py",
        "evaluation": {},
    },
    "mnist-200-steps": {
        "title": "MNIST, beyond the horizon of training",
        "section": "3.2",
        "kind": "curves",
        "weights": "lstm-mnist",
        "train": "configs/mnist.py",
        "evaluation": LONGER,
    },
    "mnist-40-units": {
        "title": "MNIST, 40 hidden units",
        "section": "3.2",
        "kind": "curves",
        "weights": "lstm-mnist",
        "train": "configs/mnist.py",
        "evaluation": {**LONGER, "task": {"hidden_sizes": (40,)}},
    },
    "mnist-2-layers": {
        "title": "MNIST, two hidden layers of 20",
        "section": "3.2",
        "kind": "curves",
        "weights": "lstm-mnist",
        "train": "configs/mnist.py",
        "evaluation": {**LONGER, "task": {"hidden_sizes": (20, 20)}},
    },
    "mnist-relu": {
        "title": "MNIST, ReLU instead of sigmoid",
        "section": "3.2",
        "kind": "curves",
        "weights": "lstm-mnist",
        "train": "configs/mnist.py",
        "evaluation": {**LONGER, "task": {"activation": "relu"}},
    },
    "mnist-architectures": {
        "title": "MNIST, final losses over architectures",
        "section": "3.2",
        "kind": "architectures",
        "weights": "lstm-mnist",
        "train": "configs/mnist.py",
        "baseline": "adam",
        "layers": (1, 2, 3),
        "units": (5, 10, 20, 40, 80),
        "evaluation": {"num_tasks": 64, "num_tuning_tasks": 16},
    },
    "mnist-updates": {
        "title": "Updates proposed along one trajectory",
        "section": "A",
        "kind": "updates",
        "weights": "lstm-mnist",
        "train": "configs/mnist.py",
        "learning_rate": 0.0215,  # Adam's in the figure "mnist"
        "num_steps": 100,
    },
    "preprocessing": {
        "title": "Preprocessing of gradients",
        "section": "A",
        "kind": "preprocessing",
    },
    "neural-art": {
        "title": "Neural Art, photographs held out, 64 x 64",
        "section": "3.4",
        "kind": "curves",
        "weights": "lstm-neural-art",
        "train": "configs/neural_art.py",
        "evaluation": {"num_tasks": 24, "num_tuning_tasks": 3},
    },
    "neural-art-128": {
        "title": "Neural Art, a style never seen, 128 x 128",
        "section": "3.4",
        "kind": "curves",
        "weights": "lstm-neural-art",
        "train": "configs/neural_art.py",
        "evaluation": {
            "num_tasks": 6,
            "num_tuning_tasks": 1,
            "at_once": 2,
            "task": {"content": "test", "style": "brick", "size": 128},
        },
    },
    "neural-art-pictures": {
        "title": "Neural Art, photographs held out",
        "section": "3.4",
        "kind": "pictures",
        "weights": "lstm-neural-art",
        "train": "configs/neural_art.py",
        "task": {"content": "test", "num_crops": 1},
        "learning_rates": {"sgd": 10.0, "rmsprop": 0.01, "adam": 0.0464, "nag": 4.64},
        "steps": (32, 128),
    },
}

QUICK = {"num_tasks": 3, "num_tuning_tasks": 1, "num_steps": 6, "num_tuning_steps": 4}
"""Sizes of a smoke run: every program is compiled and every figure drawn, none means anything."""

DEVIATIONS = [
    (
        "windows of the unroll",
        "20 steps of 100",
        "20 steps of 100",
        "20 on quadratics, 100 on MNIST: whole episodes (--config.unroll_length=20)",
        "MNIST, as many windows of 20: final loss 0.342 instead of 0.289, behind NAG's 0.317",
    ),
    (
        "coordinates in the backward pass",
        "all",
        "all",
        "a random eighth on MNIST (--config.estimator.coordinate_share=1.0)",
        "not measured: exact meta-gradients cost about four times as much",
    ),
    (
        "output scale",
        "not given",
        "0.01",
        "0.1 (--config.optimizer.output_scale=0.01)",
        "not measured yet",
    ),
    (
        "gradient preprocessing on MNIST",
        "log and sign, p = 10",
        "log and sign, k = 5",
        "log and sign, p = 10 (--config.optimizer.preprocess.p=5.0)",
        "not measured yet",
    ),
    (
        "start of the optimizees",
        "not given",
        "MNIST: normal, standard deviation 0.01",
        "normal, standard deviation 1 / sqrt(fan_in)",
        "not measured yet; another task, on which baselines change too",
    ),
    (
        "forget gate's bias",
        "not given",
        "1.0 (Sonnet's LSTM adds it)",
        "1.0",
        "none",
    ),
    (
        "meta-optimizer",
        "Adam, rate by random search",
        "Adam, rate 0.001 by default",
        "Adam, rate 0.003, clipped at norm 1, cosine decay",
        "not measured yet",
    ),
    (
        "choice of the meta-parameters",
        "best of the validation runs",
        "best of the evaluations",
        "best on a fixed validation batch",
        "not measured yet",
    ),
]
"""What, in the paper, in DeepMind's released code, here (and how to switch), and what that does."""
