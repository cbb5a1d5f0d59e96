"""Which member of a partition serves which parameter: functions params -> labels, by name."""

from collections.abc import Callable, Mapping

import jax
import numpy as np

from l2ljax.base import LearnedOptimizer, Params, PyTree
from l2ljax.checks import path_name, short
from l2ljax.optimizers._partition import partition
from l2ljax.optimizers.plain_labels import named
from l2ljax.specification.names import find

CONV_FC = {"conv": "conv", "fc": "fc", "dense": "fc"}


@named("conv_fc")
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


@named("conv_fc_or_rank")
def conv_fc_or_rank_labels(params: Params) -> PyTree:
    """Labels "conv" and "fc" by the parameters' names where those tell, else by their axes.

    Where a key on the path of any leaf tells nothing, as in trees of nnx and Equinox, leaves of
    more than two axes are "conv" and all others "fc".

    Args:
        params: any tree of arrays.

    Returns:
        a tree of strings like `params`.

    Example:
        >>> import jax.numpy as jnp
        >>> conv_fc_or_rank_labels({"layers": [jnp.ones((3, 3, 1, 4)), jnp.ones(4)]})
        {'layers': ['conv', 'fc']}
    """
    try:
        return conv_fc_labels(params)
    except ValueError:
        return jax.tree.map(lambda leaf: "conv" if np.ndim(leaf) > 2 else "fc", params)


LABELS: dict[str, Callable[[Params], PyTree]] = {
    "conv_fc": conv_fc_labels,
    "conv_fc_or_rank": conv_fc_or_rank_labels,
}
"""Name in configs and weight files -> label function. A new one adds its line here."""


def named_partition(optimizers: Mapping[str, LearnedOptimizer], labels: PyTree) -> LearnedOptimizer:
    """`l2ljax.partition` with labels as plain data hold them.

    Args:
        optimizers: label -> learned optimizer.
        labels: a name in `LABELS`, or `"module:attribute"` or `"file.py:attribute"` of a function
            of one's own; or a tree of labels or a function, as `partition` takes them.

    Returns:
        the learned optimizer of all; its meta-parameters are a dict label -> the member's.

    Raises:
        ValueError: for a name that is not known, and whatever `partition` refuses.

    Example:
        >>> from l2ljax.optimizers._lstm import lstm
        >>> optimizer = named_partition({"conv": lstm(), "fc": lstm()}, "conv_fc")
        >>> optimizer.specification["labels"]
        'conv_fc'
    """
    if isinstance(labels, str):
        labels = _labels_called(labels)
    elif not callable(labels) and (labels is None or jax.tree_util.all_leaves([labels])):
        raise ValueError(
            f"labels must be a name, a function or a tree of labels, got {short(labels)}."
        )
    elif not callable(labels):
        unknown = [label for label in jax.tree.leaves(labels) if label not in optimizers]
        if unknown:
            raise ValueError(
                f"labels has {short(unknown[0])}, which is no member of the partition; there are "
                f"{', '.join(optimizers)}."
            )
    return partition(optimizers, labels)


def _labels_called(name: str) -> Callable[[Params], PyTree]:
    if name in LABELS:
        return LABELS[name]
    if ":" not in name:
        raise ValueError(
            f"Unknown labels {short(name)}; there are {', '.join(sorted(LABELS))}, and "
            '"module:attribute" or "file.py:attribute" for a function of your own.'
        )
    labels = find(name)
    if not callable(labels):
        raise ValueError(f"labels {short(name)} must be a function params -> labels.")
    return labels


def _conv_or_fc(name: str) -> str:
    for key in name.lower().split("/"):
        for beginning, label in CONV_FC.items():
            if key.startswith(beginning):
                return label
    raise ValueError(
        f"The parameter {name} is neither convolutional nor fully connected by its name: "
        f"a key on its path must begin with {', '.join(CONV_FC)}; give labels of your own instead."
    )
