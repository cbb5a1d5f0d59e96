"""What an estimator must be to cross `jax.jit` as an argument, checked before it does."""

from collections.abc import Iterable
from typing import Any

import jax

from l2ljax.base import GradientEstimator
from l2ljax.base.words import dtype_of
from l2ljax.checks import check_kind, path_name, short


def check_crossing(name: str, value: Any) -> None:
    """Refuses what is no `GradientEstimator`, and one that is no pytree of arrays.

    Raises:
        TypeError: with what was given, and how such a class is written.

    Example:
        >>> from l2ljax import lstm, tasks, truncated_bptt
        >>> options = {"num_tasks": 1, "episode_length": 2, "unroll_length": 2}
        >>> check_crossing("estimator", truncated_bptt(tasks.quadratic(), lstm(), **options))
    """
    check_kind(name, value, GradientEstimator)
    for path, leaf in jax.tree_util.tree_leaves_with_path(value):
        if leaf is value:
            raise TypeError(
                f"{name} must be a pytree, so that it crosses jax.jit, and the class "
                f"{type(value).__name__} is none: put @jax.tree_util.register_dataclass and "
                "@dataclasses.dataclass(frozen=True) above it."
            )
        if dtype_of(leaf) is None:
            raise TypeError(
                f"{name} must be a pytree of arrays, got {short(leaf)} at {path_name(path)}; "
                'write that field as dataclasses.field(metadata={"static": True}).'
            )


def first_optimizer(estimators: Iterable[GradientEstimator]) -> Any:
    """What these estimators train, by the first that tells; `None` if none does."""
    told = (getattr(estimator, "optimizer", None) for estimator in estimators)
    return next((optimizer for optimizer in told if optimizer is not None), None)
