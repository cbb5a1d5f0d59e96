"""What `estimate` of an estimator must return, checked as it is traced."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from l2ljax.base import MetaParams, PyTree
from l2ljax.base.words import dtype_of, kind_of, short
from l2ljax.checks import check_like, path_name

RETURNED = "(meta_loss, meta_gradient, state, metrics)"


def check_returned(returned: Any, meta_params: MetaParams, state: PyTree) -> None:
    """Refuses what an estimator of one's own may return and a run could not go on from.

    Args:
        returned: what `estimate(meta_params, state, key)` returned.
        meta_params: what it was given.
        state: what it was given.

    Raises:
        TypeError: for anything but four values, a loss, gradient, state or metric that is no
            number or array, and a state that changes dtype.
        ValueError: unless the meta-loss is a scalar, the meta-gradient a tree like `meta_params`
            and the new state a tree like `state`.
    """
    if not isinstance(returned, tuple | list) or len(returned) != 4:
        values = isinstance(returned, tuple | list)
        got = f"{len(returned)} values" if values else short(returned)
        raise TypeError(f"estimate() must return {RETURNED}, got {got}; return all four.")
    meta_loss, meta_grads, new_state, metrics = returned
    trees = {"meta-loss": meta_loss, "meta-gradient": meta_grads, "state": new_state}
    for what, tree in trees.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if dtype_of(leaf) is None:
                raise TypeError(
                    f"An estimator's {what} {kind_of(leaf)} at {path_name(path)}, expected an "
                    f"array; estimate() must return {RETURNED}."
                )
    if not jax.tree_util.all_leaves([meta_loss]) or jnp.shape(meta_loss) != ():
        got = jax.tree.map(jnp.shape, meta_loss)
        raise ValueError(
            f"An estimator's meta-loss must be a scalar, got shape {got}; return its mean."
        )
    remedy = "estimate() must return a gradient of each meta-parameter"
    check_like(meta_params, meta_grads, "The estimator's meta-gradient", remedy)
    _check_state(state, new_state)
    check_numbers(metrics)


def _check_state(before: PyTree, after: PyTree) -> None:
    """A compiled step and a checkpoint both hold a state of one kind only."""
    what = "The state that the estimator's estimate() returns"
    remedy = "return a state with the structure, shapes and dtypes of the one given, as init's has"
    check_like(before, after, what, remedy)
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    for (path, old), new in pairs:
        if dtype_of(new) != dtype_of(old):
            raise TypeError(
                f"{what} has dtype {dtype_of(new)} at {path_name(path)}, expected "
                f"{dtype_of(old)}; {remedy}."
            )


def check_numbers(metrics: Any) -> None:
    """Refuses metrics that are no dict (nested as may be) of booleans and real numbers.

    Raises:
        TypeError: naming the metric, what it is and what was expected.
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"An estimator's metrics must be a dict of arrays, got {short(metrics)}; return {{}} "
            "for none."
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(dict(metrics)):
        dtype = dtype_of(leaf)
        if dtype is None or not (
            jnp.issubdtype(dtype, jnp.bool_) or jnp.isdtype(dtype, ("integral", "real floating"))
        ):
            remedy = "leave it out" if dtype is None else "give its parts or its norm instead"
            raise TypeError(
                f"The estimator's metric {path_name(path)} {kind_of(leaf)}, records hold real "
                f"numbers; {remedy}."
            )
