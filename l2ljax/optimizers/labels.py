"""Which member of a partition serves which parameter: functions params -> labels, by name."""

from collections.abc import Callable, Mapping

import jax

from l2ljax.base import LearnedOptimizer, Params, PyTree
from l2ljax.checks import path_name, short
from l2ljax.optimizers._partition import partition

CONV_FC = {"conv": "conv", "fc": "fc", "dense": "fc"}


def conv_fc_labels(params: Params) -> PyTree:
    """Labels "conv" and "fc", as Andrychowicz et al. (2016), section 3.3, split a classifier.

    A leaf has the label of the first key on its path that begins with "conv" (label "conv"), or
    with "fc" or "dense" (label "fc"), in any case: `conv/0/kernel`, `params/Dense_1/bias`.

    Args:
        params: parameters of `l2ljax.tasks.convnet`, or any tree with such keys.

    Returns:
        a tree of strings like `params`, for `l2ljax.partition`.

    Raises:
        ValueError: for a leaf without such a key, naming it.

    Example:
        >>> conv_fc_labels({"conv": [{"kernel": 1.0, "scale": 1.0}], "fc": [{"kernel": 1.0}]})
        {'conv': [{'kernel': 'conv', 'scale': 'conv'}], 'fc': [{'kernel': 'fc'}]}
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: _conv_or_fc(path_name(path)), params)


LABELS: dict[str, Callable[[Params], PyTree]] = {
    "conv_fc": conv_fc_labels,
}
"""Name in configs and weight files -> label function. A new one adds its line here."""


def named_partition(optimizers: Mapping[str, LearnedOptimizer], labels: str) -> LearnedOptimizer:
    """`l2ljax.partition` with labels by name, as plain data can hold it.

    Args:
        optimizers: label -> learned optimizer.
        labels: a name in `LABELS`.

    Raises:
        ValueError: for a name that is not known, and whatever `partition` refuses.

    Example:
        >>> from l2ljax.optimizers._lstm import lstm
        >>> optimizer = named_partition({"conv": lstm(), "fc": lstm()}, "conv_fc")
    """
    if not isinstance(labels, str) or labels not in LABELS:
        raise ValueError(f"Unknown labels {short(labels)}; there are {', '.join(sorted(LABELS))}.")
    return partition(optimizers, LABELS[labels])


def _conv_or_fc(name: str) -> str:
    for key in name.lower().split("/"):
        for beginning, label in CONV_FC.items():
            if key.startswith(beginning):
                return label
    raise ValueError(
        f"The parameter {name} is neither convolutional nor fully connected by its name: "
        f"a key on its path must begin with {', '.join(CONV_FC)}; give labels of your own instead."
    )
