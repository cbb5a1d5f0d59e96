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


def common_optimizer(estimators: Iterable[GradientEstimator]) -> Any:
    """What these estimators train, if all that tell it say the same; else `None`.

    Members may have rules of their own, each told another number of steps, say, of one kind of
    weights: then none of them is what is trained.
    """
    told = [getattr(estimator, "optimizer", None) for estimator in estimators]
    told = [optimizer for optimizer in told if optimizer is not None]
    return told[0] if told and all(_alike(told[0], other) for other in told) else None


def _alike(one: Any, other: Any) -> bool:
    said = getattr(one, "specification", None)
    return one is other or (said is not None and said == getattr(other, "specification", None))
