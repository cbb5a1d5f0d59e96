"""Whether gradients, state and parameters that an `update` is given belong together.

Leaf by leaf and in order: containers may differ (a state's boxes name more axes, a framework may
hand on arrays without theirs), numbers of leaves and shapes may not. NumPy's broadcasting would
else make one shape of two, and a zip of leaves a sentence that nobody understands.
"""

from typing import Any

import jax
import jax.numpy as jnp

from l2ljax.base import PyTree
from l2ljax.checks import path_name


def check_update_inputs(
    name: str, gradients: PyTree, kept: PyTree, params: PyTree = None, in_front: int = 0
) -> None:
    """Refuses a state or parameters that are not those of the gradients.

    Args:
        name: of the transformation, for the sentence.
        gradients: what `update` is given first.
        kept: a tree of the state with a leaf a parameter, of its shape.
        params: those that `update` is given; `None`: the rule does not read them.
        in_front: axes of `kept` in front of the parameter's own.

    Raises:
        ValueError: naming the first leaf that differs, both shapes, and what to do.

    Example:
        >>> check_update_inputs("mine", {"w": jnp.ones(3)}, {"w": jnp.zeros(3)})
    """
    _check_leaves(
        gradients,
        kept,
        in_front,
        f"the state of {name}",
        "give update() gradients like the parameters that init() was given",
    )
    if params is not None:
        check_params(name, gradients, params)


def check_params(name: str, gradients: PyTree, params: PyTree) -> None:
    """Refuses parameters that are not those of the gradients, as `check_update_inputs` does."""
    _check_leaves(
        gradients,
        params,
        0,
        f"the tree of parameters given to {name}",
        "give update() the parameters that the gradients are of",
    )


def _check_leaves(gradients: PyTree, given: PyTree, in_front: int, what: str, remedy: str) -> None:
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (gradients, given)]
    if shapes[0] == [shape[in_front:] for shape in shapes[1]]:
        return  # names are made for the sentence alone: an update may not be compiled
    want, have = (_named_shapes(tree) for tree in (gradients, given))
    if len(want) != len(have):
        raise ValueError(
            f"{what} has {len(have)} leaves ({_first(have)}), expected {len(want)} "
            f"({_first(want)}); {remedy}."
        )
    for (path, expected), (_, shape) in zip(want, have, strict=True):
        if shape[in_front:] != expected:
            raise ValueError(
                f"{what} has shape {shape[in_front:]} at {path}, expected {expected}; {remedy}."
            )


def _named_shapes(tree: PyTree) -> list[tuple[str, tuple[int, ...]]]:
    leaves: Any = jax.tree_util.tree_leaves_with_path(tree)
    return [(path_name(path), jnp.shape(leaf)) for path, leaf in leaves]


def _first(named: list[tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(path for path, _ in named[:3]) + ", ..." * (len(named) > 3)
