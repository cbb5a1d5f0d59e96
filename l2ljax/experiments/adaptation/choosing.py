"""What an adaptation is made with where nothing else is asked for: estimator, sizes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from l2ljax.base import GradientEstimator, LearnedOptimizer, Params, Task
from l2ljax.checks import check_choice, check_positive_int, short
from l2ljax.estimators import truncated_bptt
from l2ljax.estimators.groups import is_recordable
from l2ljax.experiments.fields import WEIGHTS
from l2ljax.experiments.parts import build_estimator

MOST_TASKS = 16
COORDINATES = 2**15
"""Of all tasks of a meta-update together, about; of larger ones a share is sampled."""
LEAST_SHARE = 1 / 16
SIGMA, PAIRS, WINDOW = 0.03, 8, 25
"""Of evolution strategies: spread of the meta-parameters, antithetic pairs, steps of a window."""


class Sizes(NamedTuple):
    """How large the parts of an adaptation are."""

    num_steps: int
    num_tasks: int
    num_validation_tasks: int
    num_eval_tasks: int


def choose_num_tasks(num_tasks: int | None, params: Params) -> int:
    """Optimizees of a meta-update: many small ones, or few large ones.

    Example:
        >>> small, large = (jax.ShapeDtypeStruct((n,), "float32") for n in (10, 10**6))
        >>> choose_num_tasks(None, small), choose_num_tasks(None, large), choose_num_tasks(3, large)
        (16, 1, 3)
    """
    if num_tasks is not None:
        return check_positive_int("num_tasks", num_tasks)
    return max(1, min(MOST_TASKS, COORDINATES // max(1, _coordinates(params))))


def choose_estimator(
    estimator: Any,
    task: Task,
    optimizer: LearnedOptimizer,
    params: Params,
    sizes: Sizes,
    weights: str = "all",
) -> GradientEstimator:
    """The estimator that is asked for, or one that suits the optimizer.

    Args:
        estimator: an estimator of this optimizer; the specification of one, such as
            `{"name": "nres", "num_perturbations": 8, "sigma": 0.03, "unroll_length": 25}`; or
            `None`: truncated backpropagation over whole episodes where coordinates are independent
            and gradients can be recorded, else persistent evolution strategies.
        task, optimizer: of the adaptation.
        params: shapes of the task's parameters.
        sizes: of the adaptation.
        weights: of the meta-loss's steps, one of `l2ljax.experiments.fields.WEIGHTS`.

    Raises:
        ValueError, TypeError: for what is no estimator, is one of another optimizer, or cannot be
            built.
    """
    check_choice("weights_of_steps", weights, list(WEIGHTS))
    if isinstance(estimator, GradientEstimator):
        if (trained := getattr(estimator, "optimizer", None)) not in (None, optimizer):
            raise ValueError(
                f"estimator trains {short(trained)}, but weights belong to {short(optimizer)}; "
                "make it with the optimizer of the pair that is given as weights."
            )
        return estimator
    if estimator is None:
        estimator = _suited(task, optimizer, params, sizes)
    if not isinstance(estimator, Mapping):
        raise TypeError(
            "estimator must be an l2ljax.GradientEstimator, the specification of one such as "
            f'{{"name": "nres", "num_perturbations": 8, "sigma": 0.03}}, or None, got '
            f"{short(estimator)}."
        )
    whole = estimator.get("name") in ("truncated_bptt", "full_es")
    config = {
        "num_tasks": sizes.num_tasks,
        "episode_length": sizes.num_steps,
        "unroll_length": sizes.num_steps if whole else min(WINDOW, sizes.num_steps),
        "weights": weights,
        "estimator": dict(estimator),
    }
    for name in ("num_tasks", "episode_length", "unroll_length"):
        config[name] = config["estimator"].pop(name, config[name])
    return build_estimator(config, task, optimizer, None)


def described(estimator: GradientEstimator) -> dict[str, Any]:
    """Kind and plain settings of an estimator, for a card.

    Example:
        >>> from l2ljax.optimizers import lstm
        >>> from l2ljax.tasks import quadratic
        >>> sizes = {"num_tasks": 2, "episode_length": 4, "unroll_length": 4}
        >>> found = described(truncated_bptt(quadratic(), lstm((2,)), **sizes))
        >>> found["kind"], found["episode_length"], found["backward"]
        ('TruncatedBPTT', 4, 'recorded')
    """
    plain = {
        name: value
        for name, value in vars(estimator).items()
        if isinstance(value, int | float | str) or (name == "sigma" and isinstance(value, tuple))
    }
    if "sigma" in plain:
        plain["sigma"] = short(plain["sigma"])
    return {"kind": type(estimator).__name__, **plain}


def _suited(
    task: Task, optimizer: LearnedOptimizer, params: Params, sizes: Sizes
) -> dict[str, Any]:
    if task.init_state is not None:  # evolution strategies do not carry it
        return {"name": truncated_bptt.__name__}
    batch = jax.tree.map(lambda p: jax.ShapeDtypeStruct((1, *p.shape), p.dtype), params)
    alone = optimizer.coordinate_groups is not None  # whole tensors are no faster recorded
    if alone and is_recordable(optimizer, batch):
        coordinates = sizes.num_tasks * _coordinates(params)
        share = max(LEAST_SHARE, min(1.0, COORDINATES / max(1, coordinates)))
        return {"name": truncated_bptt.__name__, "coordinate_share": share}
    return {"name": "pes", "num_perturbations": PAIRS, "sigma": SIGMA, "reduction": "mean"}


def _coordinates(params: Params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
