"""Groups of parameters that serve each parameter once."""

import collections
from collections.abc import Sequence

import jax

from l2ljax.base import Group, Params
from l2ljax.base.words import path_name
from l2ljax.checks import short


def check_cover(groups: Sequence[Group], params: Params) -> None:
    """Refuses groups that leave a parameter out, serve it twice, or name one that is not there.

    Args:
        groups: what `coordinate_groups` or `tensor_groups` returned for `params`.
        params: arrays or shapes.

    Raises:
        ValueError: naming the parameter.

    Example:
        >>> from l2ljax.base import CoordinateGroup
        >>> import jax.numpy as jnp
        >>> check_cover([CoordinateGroup((0,), None)], {"w": jnp.ones(2)})
        >>> check_cover([CoordinateGroup((0, 1), None)], {"w": jnp.ones(2)})
        Traceback (most recent call last):
        ValueError: coordinate_groups must name parameters by their place among the 1 leaves, 0 to \
0, got 1.
    """
    served = collections.Counter(i for group in groups for i in group.leaves)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for i in served:
        if i not in range(len(leaves)):
            raise ValueError(
                f"coordinate_groups must name parameters by their place among the {len(leaves)} "
                f"leaves, 0 to {len(leaves) - 1}, got {short(i)}."
            )
    for i, (path, _) in enumerate(leaves):
        if (count := served[i]) != 1:
            raise ValueError(
                f"coordinate_groups must serve each parameter once, but {path_name(path)} is in "
                f"{count} groups; put it in exactly one (a frozen one in a group of its own, with "
                "optax.set_to_zero()), or leave coordinate_groups out."
            )
