"""The paper's figures: what each shows, with which weights, and which configuration trains those.

`l2ljax reproduce` makes them. `evaluation` replaces entries of the training configuration's own
(`l2ljax.experiments.configuration.EVALUATION`); rates are tuned for the 100 steps that were
trained, also where the curves go on.
"""

LONGER = {"num_tasks": 64, "num_steps": 200, "num_tuning_steps": 100}


def _cifar(labels: tuple[int, ...], **others: object) -> dict[str, object]:
    """An evaluation on test images of `labels`; its accuracy is on training images."""
    return {
        "num_tuning_tasks": 2,
        "at_once": 2,
        "task": {
            "dataset": {"name": "cifar10", "split": "test", "labels": labels},
            "batch_size": 128,
        },
        "unseen": {"name": "cifar10", "split": "train[:2000]", "labels": labels},
        **others,
    }


CIFAR = {
    "section": "3.3",
    "kind": "curves",
    "weights": "lstm-cifar10",
    "train": "configs/cifar10.py",
    "note": "The copy of CIFAR-10 is JPEG-recompressed: its pixels differ a little.",
}
CIFAR_10, CIFAR_5, CIFAR_2 = (tuple(range(n)) for n in (10, 5, 2))
SINGLE = {"lstm_single": "lstm-cifar10-single"}
SUB_5, SUB_2 = ({"lstm_sub": f"lstm-cifar10-sub{n}"} for n in (5, 2))
NEAR = {  # around the best on CIFAR-10; widened where one at the edge is the best
    "sgd": (0.1, 0.215, 0.464, 1.0, 2.15),
    "rmsprop": (0.00215, 0.00464, 0.01),
    "adam": (0.00215, 0.00464, 0.01),
    "nag": (0.0464, 0.1, 0.215),
}
BEST_10 = {"sgd": 0.464, "rmsprop": 0.00464, "adam": 0.00464, "nag": 0.1}
BEST_5 = {"sgd": 0.215, "rmsprop": 0.00215, "adam": 0.00215, "nag": 0.0464}  # and of CIFAR-2
LESS_NOISY = {"final_batches": 32}
"""The loss at the end of minibatches of 4,096 images in all, where the curve's is of one of 128."""

SUBSET = {"num_tasks": 16, "learning_rates": NEAR, **LESS_NOISY}
FURTHER = {"num_tasks": 2, "num_steps": 1000, "num_tuning_steps": 100}
"""On to 1,000 steps, with the rates found for 100."""

FIGURES = {
    "quadratic": {
        "title": "Quadratics",
        "section": "3.1",
        "kind": "curves",
        "weights": "lstm-quadratic",
        "train": "configs/quadratic.py",
        "evaluation": {},
    },
    "quadratic-meta-losses": {
        "title": "Quadratics, meta-loss of all steps against the last one's",
        "section": "2",
        "kind": "curves",
        "weights": "lstm-quadratic-all",
        "train": "configs/quadratic.py",
        "evaluation": {"beside": {"lstm_last": "lstm-quadratic-last"}},
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
        "from_step": 100,  # the paper's panel: only the steps beyond; drawn besides
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
        "section": "B",
        "kind": "updates",
        "weights": "lstm-mnist",
        "train": "configs/mnist.py",
        "learning_rates": {"adam": 0.0215, "sgd": 2.15},  # those in the figure "mnist"
        "num_steps": 100,
        "at_steps": (1, 5, 20, 90),
    },
    "preprocessing": {
        "title": "Preprocessing of gradients",
        "section": "A",
        "kind": "preprocessing",
    },
    "cifar10": {
        "title": "CIFAR-10, images held out",
        "evaluation": _cifar(CIFAR_10, num_tasks=64, beside=SINGLE, **LESS_NOISY),
        **CIFAR,
    },
    "cifar5": {
        "title": "CIFAR-5, images held out",
        "evaluation": _cifar(CIFAR_5, beside=SUB_5, **SUBSET),
        **CIFAR,
    },
    "cifar2": {
        "title": "CIFAR-2, images held out",
        "evaluation": _cifar(CIFAR_2, beside=SUB_2, **SUBSET),
        **CIFAR,
    },
    "cifar10-1000-steps": {
        "title": "CIFAR-10, beyond the horizon of training",
        "evaluation": _cifar(CIFAR_10, beside=SINGLE, learning_rates=BEST_10, **FURTHER),
        **CIFAR,
    },
    "cifar5-1000-steps": {
        "title": "CIFAR-5, beyond the horizon of training",
        "evaluation": _cifar(CIFAR_5, beside=SUB_5, learning_rates=BEST_5, **FURTHER),
        **CIFAR,
    },
    "cifar2-1000-steps": {
        "title": "CIFAR-2, beyond the horizon of training",
        "evaluation": _cifar(CIFAR_2, beside=SUB_2, learning_rates=BEST_5, **FURTHER),
        **CIFAR,
    },
    "cifar": {
        "title": "CIFAR-10 and its subsets",
        "section": "3.3",
        "kind": "panels",
        "rows": (
            ("cifar10", "cifar5", "cifar2"),
            ("cifar10-1000-steps", "cifar5-1000-steps", "cifar2-1000-steps"),
        ),
        "titles": ("CIFAR-10", "CIFAR-5", "CIFAR-2"),
        "labels": {"partition": "two LSTMs", "lstm_sub": "LSTM-sub"},
    },
    "neural-art": {
        "title": "Neural Art, photographs held out, 64 x 64",
        "section": "3.4",
        "kind": "curves",
        "weights": "lstm-neural-art",
        "train": "configs/neural_art.py",
        "evaluation": {"num_tasks": 64, "num_tuning_tasks": 8},
    },
    "neural-art-128": {
        "title": "Neural Art, a style never seen, 128 x 128",
        "section": "3.4",
        "kind": "curves",
        "weights": "lstm-neural-art",
        "train": "configs/neural_art.py",
        "evaluation": {
            "num_tasks": 24,
            "num_tuning_tasks": 4,
            "at_once": 2,
            "task": {"content": "test", "style": "brick", "size": 128},
            "beside": {"lstm_4x": "lstm-neural-art"},
            "gradient_scales": {"lstm_4x": 4.0},  # each of 4 times the pixels has a quarter
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
