"""`nominal` where some gradients are not finite: those coordinates stand still, the others go on.

Statistics are of whole tensors and parameters of all, so one NaN would else reach every coordinate
of its tensor, and with the next step every tensor.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import PyTree
from l2ljax.checks import check_real_floating
from l2ljax.optimizers.nominal_directions import DECAYS
from l2ljax.optimizers.nominal_statistics import num_remembered

LARGEST = 2.0**64
"""Gradients from here on have a square beyond float32."""


def skipping_nonfinite(
    tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """`scale_by_nominal`, none of whose coordinates takes in a gradient that is not finite.

    Such a coordinate has a step of 0, and its moments stay as they were; statistics of its tensor
    see a gradient of 0 there, and are not taken where all of a tensor is so. So has one whose
    gradient is finite and beyond `LARGEST`, which would leave an infinite second moment that no
    later gradient brings down. `count` counts all steps.

    Args:
        tx: `scale_by_nominal(...)`, whose state is a `ScaleByNominalState`.

    Returns:
        an Optax transformation with the same state.

    Example:
        >>> from l2ljax.optimizers import nominal, scale_by_nominal
        >>> tx = skipping_nonfinite(scale_by_nominal(nominal().init(jax.random.key(0))))
        >>> params = {"w": jnp.ones(3)}
        >>> step, _ = tx.update({"w": jnp.array([1, jnp.nan, 1])}, tx.init(params), params)
        >>> [bool(s > 0) for s in step["w"]]
        [True, False, True]
    """

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, Any]:
        check_real_floating(updates, "gradient")
        fine = jax.tree.map(lambda g: jnp.abs(jnp.asarray(g, jnp.float32)) < LARGEST, updates)

        def where_fine(new: PyTree, old: PyTree) -> PyTree:
            return jax.tree.map(jnp.where, fine, new, old)

        zeros = optax.tree.zeros_like(updates)
        found: Any = tx.update(where_fine(updates, zeros), state, params, **extra_args)
        step, after = found
        averaged = bool(jax.tree.leaves(after.pending))
        after = after._replace(
            momenta=tuple(map(where_fine, after.momenta, state.momenta)),
            second=where_fine(after.second, state.second),
            pending=where_fine(after.pending, state.pending) if averaged else after.pending,
            memory=_of_seen_tensors(fine, after.memory, state.memory),
        )
        return where_fine(step, zeros), after

    return optax.GradientTransformationExtraArgs(tx.init, update)


def _of_seen_tensors(fine: PyTree, new: PyTree, old: PyTree) -> PyTree:
    """What is remembered of tensors: of gradients only where one was seen, of parameters always.

    Leaf by leaf: boxes around a memory name more axes than those around the gradients.
    """
    leaves, treedef = jax.tree.flatten(new)
    of_gradients = num_remembered(len(DECAYS))

    def one(fine: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
        column = jnp.arange(new.shape[0]).reshape(-1, *[1] * (new.ndim - 1))
        return jnp.where(fine.any() | (column >= of_gradients), new, old)

    columns = jax.tree.leaves(fine), leaves, jax.tree.leaves(old)
    return treedef.unflatten(list(map(one, *columns)))
