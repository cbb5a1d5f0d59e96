"""What the recorded backward pass cuts into chunks: the last axis of a group's arrays.

For a `CoordinateGroup` a column is a coordinate. For `Tensors` it is a whole tensor, and the
group's arrays are `[*shape, num_tasks, tensors]` or, tasks and tensors side by side, `[*shape,
columns]`; every array of their state ends with the same axes.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import optax

from l2ljax.base import CoordinateGroup, MetaParams, PyTree, TensorGroup


class Tensors(NamedTuple):
    """Parameters of one shape and dtype that one per-tensor rule serves.

    Attributes:
        leaves: positions of those parameters in `jax.tree.leaves(params)`.
        transform: meta-parameters -> the rule, of arrays that end with axes of columns, with a
            `TensorState`.
    """

    leaves: tuple[int, ...]
    transform: Callable[[MetaParams], optax.GradientTransformation]


Columns = CoordinateGroup | Tensors


class TensorState(NamedTuple):
    """State of `Tensors`.

    Attributes:
        inner: the rule's, of each tensor.
        params: the tensors, which the rule may read and its updates move.
    """

    inner: PyTree
    params: jax.Array


def tensors_of(group: TensorGroup, leaves: Sequence[Any]) -> list[Tensors]:
    """The group's tensors by shape and dtype, those without coordinates left out.

    Args:
        group: of an optimizer.
        leaves: of one optimizee's parameters, arrays or shapes.
    """

    def alike(i: int) -> tuple[str, tuple[int, ...]]:
        return str(leaves[i].dtype), leaves[i].shape

    filled = sorted((i for i in group.leaves if leaves[i].size), key=alike)
    return [
        Tensors(tuple(members), _over_columns(group.transform, len(shape)))
        for (_, shape), members in itertools.groupby(filled, key=alike)
    ]


def _over_columns(
    transform: Callable[[MetaParams], optax.GradientTransformation], rank: int
) -> Callable[[MetaParams], optax.GradientTransformation]:
    """A rule for one tensor of `rank` axes as a rule for many, along the axes behind them."""

    def lifted(meta_params):
        tx = transform(meta_params)

        def over(function, array):
            for _ in range(array.ndim - rank):
                function = jax.vmap(function, in_axes=-1, out_axes=-1)
            return function

        def init(params):
            return TensorState(over(tx.init, params)(params), params)

        def update(updates, state, params=None):
            del params
            step = over(lambda g, s, p: tx.update(g, s, p), updates)
            updates, inner = step(updates, *state)
            params = optax.apply_updates(state.params, updates)
            return updates, TensorState(inner, params)  # pyright: ignore[reportArgumentType]

        return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]

    return lifted


def tensor_sizes(groups: Sequence[Columns], arrays: Sequence[Any]) -> list[int | None]:
    """Coordinates of a tensor of each of the `Tensors`; `None` for coordinate groups.

    Args:
        groups: of an optimizer.
        arrays: for each, `[*shape, num_tasks, columns]`.
    """
    return [
        math.prod(array.shape[:-2]) if isinstance(group, Tensors) else None
        for group, array in zip(groups, arrays, strict=True)
    ]


def map_columns(
    group: Columns,
    tx: optax.GradientTransformation,
    function: Callable[[Any], Any],
    state: PyTree,
    others: Callable[[Any], Any] = lambda leaf: leaf,
) -> PyTree:
    """`function` of each leaf of a state that has columns, `others` of the rest."""
    if isinstance(group, Tensors):
        return jax.tree.map(function, state)
    return optax.tree.map_params(tx, function, state, transform_non_params=others)


def first_params(group: Columns, states: PyTree, gradients: jax.Array) -> jax.Array:
    """What a fresh state is made from: the tensors before the first step, or an array like them.

    Args:
        group: a coordinate group or tensors.
        states: snapshots of a chunk, stacked.
        gradients: `[num_steps, ...]`.
    """
    return states.params[0] if isinstance(group, Tensors) else gradients[0]
