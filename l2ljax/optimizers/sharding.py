"""State of a coordinatewise optimizer, sharded as its parameters.

Such a state holds, for every parameter, an array with more axes in front (hidden units, momenta)
and the parameter's own axes behind. Whatever says how a parameter is sharded says nothing of those
in front: they are never split, and the parameter's own axes are split as the parameter is.
"""

import functools
import sys
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.core import meta
from jax.sharding import NamedSharding, PartitionSpec

from l2ljax.base import Params, PyTree
from l2ljax.checks import short


def repeated_over(zero: jax.Array, params: Params) -> PyTree:
    """`zero` `[hidden]` for each coordinate: a tree like `params`, `[hidden, *param.shape]`.

    Leaves are sharded like the parameters where those are. Boxes with sharding metadata
    (`flax.linen.Partitioned`, `flax.nnx.Param`) stay, and their names of axes move one axis on.

    Example:
        >>> import flax.linen as nn
        >>> boxed = {"kernel": nn.Partitioned(jnp.ones((4, 2)), names=("model", None))}
        >>> repeated_over(jnp.zeros(3), boxed)["kernel"].names
        (None, 'model', None)
    """
    return axis_in_front(jax.tree.map(functools.partial(_repeat, zero), params))


def axis_in_front(tree: PyTree) -> PyTree:
    """`tree`, whose arrays got an axis in front of those that boxes around them tell of.

    The boxes' names move one axis on; an axis of length 1, as of a mean over a parameter's own, has
    no name, since it cannot be split.
    """
    moved = _nnx_axis_in_front(meta.add_axis(tree, 0, {meta.PARTITION_NAME: None}))

    def without_single(node: Any) -> Any:
        if not isinstance(node, meta.Partitioned) or not hasattr(node.value, "shape"):
            return node
        shape = jnp.shape(node.value)
        if len(node.names) != len(shape):  # nothing of a parameter is in it
            return node
        kept = tuple(n if size != 1 else None for n, size in zip(node.names, shape, strict=True))
        return node.replace(names=kept)

    return jax.tree.map(without_single, moved, is_leaf=lambda n: isinstance(n, meta.Partitioned))


def _repeat(zero: jax.Array, param: jax.Array) -> jax.Array:
    like_param = jnp.zeros_like(param, dtype=zero.dtype)
    return jnp.broadcast_to(like_param, (*zero.shape, *like_param.shape))


def _nnx_axis_in_front(tree: PyTree) -> PyTree:
    """`tree`, whose nnx variables are sharded along the axes behind their first."""
    nnx = sys.modules.get("flax.nnx")  # slow to import; without it there is none of its variables
    if nnx is None:
        return tree

    def move(node: Any) -> Any:
        if not isinstance(node, nnx.Variable):
            return node
        metadata = node.get_metadata()
        names = {
            kind: (None, *metadata[kind])
            for kind in ("out_sharding", "optimizer_sharding")
            if metadata.get(kind)
        }
        return node.copy(**names) if names else node

    return jax.tree.map(move, tree, is_leaf=lambda node: isinstance(node, nnx.Variable))


def state_shardings(
    tx: optax.GradientTransformation, params: Params, shardings: PyTree, default: Any
) -> PyTree:
    """How the state of `tx` is to be sharded: every copy of a parameter as the parameter.

    `optax.tree.map_params` alone puts a parameter's sharding on its copies as it stands, first axis
    on first axis, which is right for Adam and wrong for a state with further axes in front. This is
    the same recipe with `None` for those: right for both, and for a chain of them.

    Args:
        tx: any Optax transformation; its state's copies of parameters may have axes in front. What
            has fewer axes than its parameter, as Adafactor's sums, is not sharded.
        params: arrays or leaves `jax.ShapeDtypeStruct`, without boxes (whose states have boxes of
            their own, for `flax.linen.get_sharding`).
        shardings: a tree like `params` of `PartitionSpec` or `NamedSharding` leaves.
        default: for what is no copy of a parameter, such as a count: of the same kind.

    Returns:
        a tree like `tx.init(params)` of what `shardings` has, for `jax.device_put`, or for
        `out_shardings` and `in_shardings` of `jax.jit`.

    Raises:
        TypeError: if `shardings` has something else than those two.

    Example:
        >>> from jax.sharding import PartitionSpec as P
        >>> from l2ljax.optimizers._lstm import lstm
        >>> optimizer = lstm(hidden_sizes=(3,))
        >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)))
        >>> specs = state_shardings(tx, {"w": jnp.ones((8, 6))}, {"w": P("model")}, P())
        >>> specs.carry[0].hidden["w"] == P(None, "model")
        True
    """
    state = jax.eval_shape(tx.init, params)
    return optax.tree.map_params(
        tx,
        _in_front,
        state,
        params,
        shardings,
        transform_non_params=lambda leaf: default,
        is_leaf=_is_masked,
    )


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _in_front(leaf: Any, param: Any, sharding: Any) -> Any:
    """`sharding` of `param` for an array with `leaf.ndim - param.ndim` more axes in front."""
    if _is_masked(leaf):  # a parameter that another member of the transformation serves
        return leaf
    if isinstance(sharding, NamedSharding):
        spec = _own_axes(leaf, param, sharding.spec)
        return NamedSharding(sharding.mesh, spec, memory_kind=sharding.memory_kind)
    if isinstance(sharding, PartitionSpec):
        return _own_axes(leaf, param, sharding)
    raise TypeError(
        f"shardings must be a tree of PartitionSpecs or NamedShardings, got {short(sharding)}."
    )


def _own_axes(leaf: Any, param: Any, spec: PartitionSpec) -> PartitionSpec:
    """`spec` behind the axes in front, and nothing on an axis that `leaf` has a mean over."""
    front = leaf.ndim - jnp.ndim(param)
    if front < 0:  # such as sums over rows, which Adafactor keeps: of no axis can it be told which
        return PartitionSpec()
    sizes = zip(leaf.shape[front:], jnp.shape(param), strict=True)
    averaged = [mine != whole for mine, whole in sizes]
    own = [None if gone else axis for axis, gone in zip(spec, averaged, strict=False)]
    return PartitionSpec(*[None] * front, *own)
