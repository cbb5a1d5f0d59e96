"""A task from a model: any pytree of parameters, a flax nnx module or an Equinox one."""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from l2ljax.base import Batch, Instance, Key, Params, PyTree, Task
from l2ljax.checks import check_positive_int, short


class Fixed(NamedTuple):
    """What of a model is not trained, as arrays; the instance.

    And the data of the key that `init_fn` made it with, where there is any: the trained arrays are
    then made with that key too, so that all of them are of one model.
    """

    arrays: tuple[jax.Array, ...]
    key_data: jax.Array | tuple[()] = ()


class Rows(NamedTuple):
    """A batch: rows of the data, and the instance's fixed arrays."""

    rows: Batch
    fixed: Fixed


def as_task(
    loss_fn: Callable[[Any, Batch], jax.Array],
    init_fn: Callable[[Key], Any],
    data: PyTree = (),
    *,
    batch_size: int | None = None,
) -> Task:
    """A task that trains the model which `init_fn` makes, by the loss that `loss_fn` gives it.

    The model's floating-point arrays are trained. Whatever else it has (integers, functions, random
    keys, in an nnx module every variable that is no `nnx.Param`) is made anew for each optimizee,
    and stays as it was made: running averages, for one, are not updated.

    Args:
        loss_fn: (model, batch) -> scalar; the model is as `init_fn` makes it.
        init_fn: random key -> model: any pytree, a `flax.nnx.Module` or an `equinox.Module`.
        data: a tree of arrays `[n, ...]` with the same leading axis, or nothing.
        batch_size: rows of `data` in a minibatch, drawn uniformly with replacement; `None`: all of
            them in every step.

    Returns:
        a `Task` whose params are the model's trained arrays, a tuple in the order of
        `jax.tree.leaves`.

    Raises:
        ValueError: for a model without floating-point arrays, and for data without rows or with
            leading axes that differ.

    Example:
        >>> x = jnp.linspace(-1, 1, 32)[:, None]
        >>> task = as_task(
        ...     lambda model, batch: jnp.mean((batch[0] @ model["w"] + model["b"] - batch[1]) ** 2),
        ...     lambda key: {"w": jax.random.normal(key, (1, 1)), "b": jnp.zeros(1)},
        ...     (x, 3 * x),
        ...     batch_size=8,
        ... )
        >>> from l2ljax import evaluate
        >>> import optax
        >>> evaluate(task, optax.sgd(0.1), jax.random.key(0), num_tasks=2, num_steps=5).shape
        (2, 6)
    """
    split, merge = _split_of(init_fn(jax.random.key(0)))
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(data)}
    if len(lengths) > 1 or () in lengths:
        raise ValueError(
            "data must be arrays with the same leading axis, one row an example, got leading axes "
            f"{sorted(lengths)}."
        )
    if (0,) in lengths:
        raise ValueError("data must have at least one row, got none; look at what selects them.")
    data = jax.tree.map(jnp.asarray, data)
    if batch_size is not None:
        check_positive_int("batch_size", batch_size)
        if not lengths:
            raise ValueError(f"batch_size={batch_size} needs data to draw rows from, got none.")

    def sample(data: PyTree, key: Key) -> Instance:
        del data
        fixed = split(init_fn(key))[1]
        return fixed._replace(key_data=jax.random.key_data(key)) if fixed.arrays else fixed

    def init(instance: Instance, key: Key) -> Params:
        if instance.arrays:
            key = jax.random.wrap_key_data(instance.key_data, impl=jax.random.key_impl(key))
        return split(init_fn(key))[0]

    def batch(data: PyTree, instance: Instance, key: Key) -> Rows:
        if batch_size is None:
            return Rows(data, instance)
        num_rows = jax.tree.leaves(data)[0].shape[0]
        chosen = jax.random.randint(key, (batch_size,), 0, num_rows)
        return Rows(jax.tree.map(lambda leaf: leaf[chosen], data), instance)

    def loss(params: Params, batch: Rows) -> jax.Array:
        return loss_fn(merge(params, batch.fixed), batch.rows)

    return Task(init=init, loss=loss, sample=sample, batch=batch, data=data)


Split = Callable[[Any], tuple[tuple[jax.Array, ...], Fixed]]
Merge = Callable[[tuple[jax.Array, ...], Fixed], Any]


def _split_of(model: Any) -> tuple[Split, Merge]:
    """Functions that take models like `model` apart, and put them together again."""
    nnx: Any = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(model, nnx.Module):

        def leaves_of(model: Any) -> tuple[list[Any], Any, list[bool]]:
            graph, trained, rest = nnx.split(model, nnx.Param, ...)
            ours, theirs = jax.tree.leaves(trained), jax.tree.leaves(rest)
            structure = (graph, jax.tree.structure(trained), jax.tree.structure(rest))
            is_param = [_is_float(leaf) for leaf in ours] + [False] * len(theirs)
            return ours + theirs, structure, is_param

        def rebuild(leaves: list[Any], structure: Any) -> Any:
            graph, trained, rest = structure
            count = trained.num_leaves
            parts = trained.unflatten(leaves[:count]), rest.unflatten(leaves[count:])
            return nnx.merge(graph, *parts)

    else:

        def leaves_of(model: Any) -> tuple[list[Any], Any, list[bool]]:
            leaves, treedef = jax.tree.flatten(model)
            return leaves, treedef, [_is_float(leaf) for leaf in leaves]

        def rebuild(leaves: list[Any], structure: Any) -> Any:
            return structure.unflatten(leaves)

    return _apart(model, leaves_of, rebuild)


def _apart(model: Any, leaves_of: Callable, rebuild: Callable) -> tuple[Split, Merge]:
    template, structure, trained = leaves_of(model)
    if not any(trained):
        raise ValueError(
            f"init_fn must make a model with floating-point arrays to train, got {short(model)}."
        )
    is_array = [isinstance(leaf, jax.Array) or hasattr(leaf, "__array__") for leaf in template]
    fixed = [array and not ours for array, ours in zip(is_array, trained, strict=True)]

    def split(model: Any) -> tuple[tuple[jax.Array, ...], Fixed]:
        leaves = leaves_of(model)[0]
        chosen = tuple(jnp.asarray(x) for x, ours in zip(leaves, trained, strict=True) if ours)
        rest = tuple(x for x, kept in zip(leaves, fixed, strict=True) if kept)
        return chosen, Fixed(rest)

    def merge(params: tuple[jax.Array, ...], rest: Fixed) -> Any:
        ours, theirs = iter(params), iter(rest.arrays)
        leaves = [
            next(ours) if is_ours else next(theirs) if kept else leaf
            for leaf, is_ours, kept in zip(template, trained, fixed, strict=True)
        ]
        return rebuild(leaves, structure)

    return split, merge


def _is_float(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
