"""A learned optimizer inside another transformation, and what becomes of its coordinates."""

from collections.abc import Callable
from typing import Any

import optax

from l2ljax.base import Group, LearnedOptimizer, MetaParams, Params
from l2ljax.checks import check_optimizer, short
from l2ljax.specification import specified

Around = Callable[[optax.GradientTransformation], optax.GradientTransformation]


@specified("wrap")
def wrap(
    optimizer: LearnedOptimizer, around: Around, coordinatewise: bool = False
) -> LearnedOptimizer:
    """The learned optimizer whose transformation is `around(optimizer.transform(meta_params))`.

    So that what is meta-trained is what will be used: behind clipping, with a factor, with weight
    decay.

    Args:
        optimizer: what to wrap.
        around: transformation -> transformation, additive as a learned optimizer's is.
        coordinatewise: whether `around` treats each coordinate alone, alike, and without reading
            `params`, such as `lambda tx: optax.chain(optax.clip(1.0), tx)`. Then the optimizer's
            groups stay, with `around` around each; otherwise, as for clipping by the global norm,
            they are dropped, and estimators go through the rollout step by step. A wrong `True` is
            found by `l2ljax.check_learned_optimizer`.

    Returns:
        a learned optimizer with the same meta-parameters.

    Raises:
        TypeError: for what is no learned optimizer, or no function.

    Example:
        >>> from l2ljax.optimizers._lstm import lstm
        >>> halved = wrap(lstm((4,)), lambda tx: optax.chain(tx, optax.scale(0.5)), True)
        >>> halved.coordinate_groups is not None
        True
        >>> clipped = wrap(lstm((4,)), lambda tx: optax.chain(optax.clip_by_global_norm(1.0), tx))
        >>> clipped.coordinate_groups is None
        True
    """
    check_optimizer("optimizer", optimizer)
    if not callable(around):
        raise TypeError(
            "around must be a function from a transformation to a transformation, got "
            f"{short(around)}."
        )

    def transform(meta_params: MetaParams) -> optax.GradientTransformation:
        return around(optimizer.transform(meta_params))

    inner = optimizer.groups
    if inner is None or not coordinatewise:
        return LearnedOptimizer(optimizer.init, transform)

    def groups_of(params: Params) -> tuple[Any, ...]:
        return tuple(
            group._replace(transform=_around_group(around, group)) for group in inner(params)
        )

    if optimizer.coordinate_groups is not None:
        return LearnedOptimizer(optimizer.init, transform, coordinate_groups=groups_of)
    return LearnedOptimizer(optimizer.init, transform, tensor_groups=groups_of)


def _around_group(around: Around, group: Group):
    return lambda meta_params: around(group.transform(meta_params))
