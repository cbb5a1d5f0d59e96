"""Labels of a partition as plain data: by name, or as a tree of strings."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax

from l2ljax.base import PyTree
from l2ljax.checks import short
from l2ljax.specification.names import NotPlainError
from l2ljax.specification.plain import as_plain

Labels = TypeVar("Labels", bound=Callable[..., PyTree])


def named(name: str) -> Callable[[Labels], Labels]:
    """Decorates a function params -> labels: specifications call it `name`, wherever it stands."""

    def decorate(labels: Labels) -> Labels:
        vars(labels)["label_name"] = name
        return labels

    return decorate


def labels_as_plain(labels: PyTree | Callable, live: list[Any]) -> Any:
    """What a specification says of `labels`: a function's name, or the tree.

    A tree must be of dicts, lists and strings: others would come back as another kind of tree.

    Raises:
        NotPlainError: for a function without a name, and any other tree.

    Example:
        >>> labels_as_plain({"kernel": "conv", "dense": ["fc", "fc"]}, [])
        {'kernel': 'conv', 'dense': ['fc', 'fc']}
    """
    if callable(labels):
        live.append(labels)
        name = getattr(labels, "label_name", None)
        return as_plain(labels) if name is None else name
    if type(labels) is dict and "name" not in labels and set(labels) != {"function"}:
        if all(isinstance(key, str) for key in labels):
            return {key: _branch(inner, live) for key, inner in labels.items()}
    elif type(labels) is list:
        return [_branch(inner, live) for inner in labels]
    raise NotPlainError(f"the labels {short(labels)} are no plain data")


def labels_given(labels: Any) -> Any:
    """`labels` for a specification that is built at once: other trees than plain data untouched.

    Where a dict of plain data may stand, flax's `State` and `FrozenDict` or a tuple would become
    dicts and lists, which fit no parameters. A function that returns the tree keeps it as it is.

    Example:
        >>> labels_given({"kernel": "conv"})
        {'kernel': 'conv'}
        >>> labels_given(("conv", "fc"))(None)
        ('conv', 'fc')
    """
    if isinstance(labels, str) or (callable(labels) and jax.tree_util.all_leaves([labels])):
        return labels
    try:
        if type(labels) in (dict, list):
            return labels_as_plain(labels, [])
    except NotPlainError:
        pass
    return lambda params: labels


def _branch(tree: PyTree, live: list[Any]) -> Any:
    if isinstance(tree, str):
        return tree
    if callable(tree):
        raise NotPlainError("a function inside a tree of labels")
    return labels_as_plain(tree, live)
