"""What a learned optimizer with one rule for all parameters declares to be independent."""

from collections.abc import Callable

import jax
import optax

from l2ljax.base import Group, MetaParams, Params, TensorGroup


def tensors_alone(
    transform: Callable[[MetaParams], optax.GradientTransformation],
) -> Callable[[Params], tuple[Group, ...]]:
    """`tensor_groups` of a rule that treats every tensor alike and alone: one group of them all.

    Example:
        >>> groups = tensors_alone(lambda rate: optax.scale(-rate))({"b": 0.0, "w": 0.0})
        >>> [group.leaves for group in groups]
        [(0, 1)]
    """

    def tensor_groups(params: Params) -> tuple[Group, ...]:
        return (TensorGroup(tuple(range(len(jax.tree.leaves(params)))), transform),)

    return tensor_groups
