"""A coordinatewise rule over all parameters that it serves as one vector.

The updates are those of `optimizer.transform(meta_params)`, in fewer and wider operations: of many
small parameters each would have its own. The recorded backward pass does the same; here it serves
rollouts that nobody differentiates and whose parameters are whole on one device.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from l2ljax.base import LearnedOptimizer, MetaParams, Params, PyTree
from l2ljax.unrolling.cover import check_cover


class JoinedState(NamedTuple):
    """Of each group of parameters, the state of its rule for one vector; `()` of empty ones."""

    groups: tuple[Any, ...]


def joined(
    optimizer: LearnedOptimizer, meta_params: MetaParams
) -> optax.GradientTransformationExtraArgs:
    """`optimizer.transform(meta_params)` with the parameters of each coordinate group joined.

    Where the optimizer declares no such groups, one has parameters of several dtypes, or none has
    more than one parameter, it is the transformation as it is.

    Raises:
        ValueError: from `init`, for groups that do not serve each parameter once.

    Example:
        >>> from l2ljax.optimizers import lstm
        >>> optimizer, params = lstm((2,)), {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
        >>> tx = joined(optimizer, optimizer.init(jax.random.key(0)))
        >>> updates, state = tx.update(params, tx.init(params))
        >>> jax.tree.map(jnp.shape, updates), state.groups[0].carry[0].cell.shape
        ({'b': (3,), 'w': (2, 3)}, (2, 9))
    """
    whole = optax.with_extra_args_support(optimizer.transform(meta_params))
    groups_of = optimizer.coordinate_groups
    if groups_of is None:
        return whole

    def rules(params: Params) -> list[tuple[tuple[int, ...], Any]]:
        return [
            (group.leaves, optax.with_extra_args_support(group.transform(meta_params)))
            for group in groups_of(params)
        ]

    def init(params: Params) -> Any:
        leaves, groups = jax.tree.leaves(params), groups_of(params)
        check_cover(groups, params)
        kinds = [{jnp.result_type(leaves[i]) for i in group.leaves} for group in groups]
        several = any(len(group.leaves) > 1 for group in groups)
        if not several or any(len(dtypes) > 1 for dtypes in kinds):
            return whole.init(params)
        states = (tx.init(_vector(leaves, own)) if own else () for own, tx in rules(params))
        return JoinedState(tuple(states))

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, Any]:
        if not isinstance(state, JoinedState):
            return whole.update(updates, state, params, **extra_args)
        leaves, treedef = jax.tree.flatten(updates)
        states = []
        for (own, tx), inner in zip(rules(updates), state.groups, strict=True):
            if own:
                moves, inner = tx.update(_vector(leaves, own), inner, None, **extra_args)
                ends = np.cumsum([leaves[i].size for i in own])[:-1]
                for i, part in zip(own, jnp.split(moves, ends), strict=True):
                    leaves[i] = part.reshape(leaves[i].shape)
            states.append(inner)
        return treedef.unflatten(leaves), JoinedState(tuple(states))

    return optax.GradientTransformationExtraArgs(init, update)


def _vector(leaves: list[Any], own: tuple[int, ...]) -> jax.Array:
    return jnp.concatenate([jnp.ravel(leaves[i]) for i in own])
