"""Coordinate groups as estimators use them: those of one optimizee, checked, and their matrices.

A group's parameters of a batch of optimizees lie side by side in one matrix
`[num_tasks, coordinates]`, which the group's transformation sees as a single parameter.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec as P

from l2ljax.base import (
    CoordinateGroup,
    Group,
    LearnedOptimizer,
    MetaParams,
    Params,
    PyTree,
    TensorGroup,
)
from l2ljax.checks import shorten
from l2ljax.estimators.columns import Columns, Tensors, map_columns, tensors_of
from l2ljax.parallel import TASKS
from l2ljax.unrolling.cover import check_cover

RANDOM = ("random_bits", "threefry2x32", "random_wrap", "random_split", "random_fold_in", "rng_")
"""How JAX's primitives that draw random numbers begin."""


def coordinate_groups(optimizer: LearnedOptimizer, params: Params) -> tuple[Columns, ...]:
    """The optimizer's groups of a batch of optimizees, those without coordinates left out.

    A `TensorGroup` comes as one `Tensors` for each shape and dtype among its parameters.

    The optimizer is asked about the parameters of a single one, as its transformation meets them.

    Args:
        optimizer: with `coordinate_groups`.
        params: leaves `[num_tasks, ...]`, arrays or shapes.

    Raises:
        ValueError: if it declares no groups, a leaf is in none or in several, or a group's rule is
            one that no backward pass over recorded gradients can follow.
    """
    declared = optimizer.groups
    if declared is None:
        raise ValueError("The recorded backward pass needs an optimizer with coordinate_groups.")
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), params)
    found: list[tuple[Group, ...]] = []

    def ask(params):
        # Abstract arrays, as under jit: labels may depend on paths and shapes, never on numbers.
        found.append(tuple(declared(params)))
        return ()

    jax.eval_shape(ask, one)
    check_cover(found[0], one)
    meta_params = jax.eval_shape(optimizer.init, jax.random.key(0))
    leaves = jax.tree.leaves(one)
    groups: list[Columns] = []
    for group in found[0]:
        if isinstance(group, TensorGroup):
            units = tensors_of(group, leaves)
            for unit in units:
                _check_runs(group, leaves[unit.leaves[0]], meta_params)
            groups += units
        elif sum(leaves[i].size for i in group.leaves):
            _check_runs(group, jax.ShapeDtypeStruct((2, 3), jnp.float32), meta_params)
            _check_state(group, meta_params)
            groups.append(group)
    return tuple(groups)


def is_recordable(optimizer: LearnedOptimizer, params: Params) -> bool:
    """Whether the recorded backward pass can follow its rule: groups, and nothing random in them.

    Raises:
        ValueError: if its groups do not serve each leaf once.
    """
    if optimizer.groups is None:
        return False
    try:
        coordinate_groups(optimizer, params)
    except RuleError:
        return False
    return True


class RuleError(ValueError):
    """A rule that differs between a whole parameter and a chunk of its coordinates.

    Example:
        >>> def noisy(scale):  # a draw for a whole array is another than for its chunks
        ...     key = jax.random.key(0)
        ...     return optax.stateless(lambda g, _: scale * jax.random.normal(key, g.shape))
        >>> group = CoordinateGroup((0,), noisy)
        >>> rule = LearnedOptimizer(lambda key: jnp.float32(0.1), noisy, lambda params: (group,))
        >>> try:
        ...     coordinate_groups(rule, jnp.ones((2, 3)))
        ... except RuleError as error:
        ...     print(" ".join(str(error).split()[:7]))
        A rule with coordinate_groups draws random numbers
    """


def _check_runs(group: Group, gradient: jax.ShapeDtypeStruct, meta_params: MetaParams) -> None:
    """Refuses a group whose rule cannot be run over chunks of coordinates, or tensors, alone."""
    whole = isinstance(group, TensorGroup)

    def run(meta_params, gradient):
        tx = group.transform(meta_params)
        return tx.update(gradient, tx.init(gradient), *([gradient] if whole else []))

    kind = "tensor_groups" if whole else "coordinate_groups"
    given = "gradients and parameters" if whole else "gradients"
    try:
        program = jax.make_jaxpr(run)(meta_params, gradient)
    except Exception as error:
        reason = shorten(" ".join(f"{type(error).__name__}: {error}".split()), 200)
        raise RuleError(
            f"A rule with {kind} is given {given} alone by the recorded backward pass, "
            f'and failed on them ({reason}); use backward="scan", or leave {kind} out.'
        ) from error
    if names := sorted(_primitives(program.jaxpr, RANDOM)):
        raise RuleError(
            f"A rule with {kind} draws random numbers ({names[0]}), which would be others for "
            f'chunks of its {"tensors" if whole else "coordinates"}; use backward="scan", or leave '
            f"{kind} out."
        )


def _check_state(group: CoordinateGroup, meta_params: MetaParams) -> None:
    """Refuses state of coordinates that `optax.tree.map_params` does not find."""

    def shapes(width):
        def init(meta_params, gradient):
            return group.transform(meta_params).init(gradient)

        gradient = jax.ShapeDtypeStruct((2, width), jnp.float32)
        return jax.tree.leaves(jax.eval_shape(init, meta_params, gradient))

    def found(meta_params, gradient):
        tx = group.transform(meta_params)
        marks = optax.tree.map_params(
            tx, lambda _: True, tx.init(gradient), transform_non_params=lambda _: False
        )
        kept.extend(jax.tree.leaves(marks))
        return ()

    kept: list[bool] = []
    try:
        jax.eval_shape(found, meta_params, jax.ShapeDtypeStruct((2, 3), jnp.float32))
    except Exception as error:  # its init is called with a stand-in for each parameter
        raise RuleError(
            "A rule with coordinate_groups must have an init that does nothing to its parameters "
            f"but jax.tree.map: state of coordinates must be made by jax.tree.map ({error}); make "
            'it so, or use backward="scan".'
        ) from error
    for is_found, three, five in zip(kept, shapes(3), shapes(5), strict=True):
        of_coordinates = three.shape != five.shape
        if of_coordinates != is_found or (is_found and three.shape[-2:] != (2, 3)):
            raise RuleError(
                f"A rule with coordinate_groups has state of shape {three.shape} for a parameter "
                "of shape (2, 3): state of coordinates must be made by jax.tree.map over the "
                "parameters and have their axes last, and no other state may have them; make it "
                'so, or use backward="scan".'
            )


def _primitives(jaxpr: Any, beginnings: tuple[str, ...]) -> set[str]:
    """Names of the primitives in a program, at any depth, that begin so."""
    found = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name.startswith(beginnings):
            found.add(equation.primitive.name)
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found |= _primitives(inner, beginnings)
    return found


def init_group_states(
    optimizer: LearnedOptimizer, meta_params: MetaParams, params: Params
) -> tuple[PyTree, ...]:
    """Fresh optimizer states, one a coordinate group, for params with leading `[num_tasks]`."""
    groups = coordinate_groups(optimizer, params)
    return tuple(
        group.transform(meta_params).init(matrix)
        for group, matrix in zip(groups, to_matrices(groups, params), strict=True)
    )


def keep_group_states(
    groups: tuple[Columns, ...],
    meta_params: MetaParams,
    fine: jax.Array,
    states: tuple[PyTree, ...],
    fresh: tuple[PyTree, ...],
) -> tuple[PyTree, ...]:
    """`states` of the tasks that are `fine`, else `fresh`, both as `init_group_states` makes them.

    Coordinates' leaves are `[..., num_tasks, coordinates]`, `fine` is bool `[num_tasks]`. What is
    no coordinate's, such as a count, is all tasks' together and kept.
    """

    def keep(of_coordinate, state, new):
        return jnp.where(fine[:, None], state, new) if of_coordinate else state

    kept = []
    for group, state, new in zip(groups, states, fresh, strict=True):
        of_coordinates = map_columns(
            group, group.transform(meta_params), lambda leaf: True, state, lambda leaf: False
        )
        kept.append(jax.tree.map(keep, of_coordinates, state, new))
    return tuple(kept)


def group_state_specs(
    optimizer: LearnedOptimizer, meta_params: MetaParams, params: Params
) -> tuple[PyTree, ...]:
    """How `init_group_states` splits over devices: the task axis of coordinates' state, no other.

    `params` may be shapes. What is no coordinate's is the same for all tasks.
    """
    groups = coordinate_groups(optimizer, params)
    states = jax.eval_shape(lambda m, p: init_group_states(optimizer, m, p), meta_params, params)
    return tuple(
        map_columns(
            group,
            group.transform(meta_params),
            lambda leaf: P(*[None] * (leaf.ndim - 2), TASKS),
            state,
            lambda leaf: P(),
        )
        for group, state in zip(groups, states, strict=True)
    )


def with_params(
    groups: tuple[Columns, ...], states: tuple[PyTree, ...], params: Params
) -> tuple[PyTree, ...]:
    """`states`, those of tensors beside the tensors `params` as they are now."""
    return tuple(
        state._replace(params=matrix) if isinstance(group, Tensors) else state
        for group, state, matrix in zip(groups, states, to_matrices(groups, params), strict=True)
    )


def to_matrices(groups: tuple[Columns, ...], tree: PyTree) -> list[jax.Array]:
    """Leaves `[num_tasks, *shape]` -> one `[num_tasks, coordinates]` a group, dtypes promoted.

    Of `Tensors`, `[*shape, num_tasks, tensors]`.
    """
    leaves = jax.tree.leaves(tree)

    def matrix(group: Columns) -> jax.Array:
        if isinstance(group, Tensors):
            return jnp.stack([jnp.moveaxis(leaves[i], 0, -1) for i in group.leaves], axis=-1)
        mine = [leaves[i].reshape(leaves[i].shape[0], -1) for i in group.leaves]
        dtype = jnp.result_type(*(x.dtype for x in mine))
        return jnp.concatenate([x.astype(dtype) for x in mine], axis=1)

    return [matrix(group) for group in groups]


def from_matrices(groups: tuple[Columns, ...], matrices: Sequence[Any], like: PyTree) -> PyTree:
    """The inverse of `to_matrices`; each leaf takes the shape and dtype of its like."""
    leaves, treedef = jax.tree.flatten(like)
    for group, matrix in zip(groups, matrices, strict=True):
        if isinstance(group, Tensors):
            for j, i in enumerate(group.leaves):
                leaves[i] = jnp.moveaxis(matrix[..., j], -1, 0).astype(leaves[i].dtype)
            continue
        offset = 0
        for i in group.leaves:
            width = leaves[i][0].size
            piece = jax.lax.slice_in_dim(matrix, offset, offset + width, axis=1)
            leaves[i] = piece.reshape(leaves[i].shape).astype(leaves[i].dtype)
            offset += width
    return treedef.unflatten(leaves)
