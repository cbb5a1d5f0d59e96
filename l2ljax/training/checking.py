"""Does an estimator of the meta-gradient keep what meta-training takes it at its word for?"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from l2ljax.base import GradientEstimator, LearnedOptimizer, MetaParams, PyTree, Task
from l2ljax.base.words import dtype_of, kind_of
from l2ljax.checks import check_optimizer, check_task, path_name
from l2ljax.estimators.crossing import check_crossing
from l2ljax.parallel import on_host, placed_like
from l2ljax.training.compiled_estimator import (
    NUM_ESTIMATES,
    Estimate,
    Program,
    leaves_of,
    name_of,
)

NUM_DRAWS = 8
TOLERANCE, MESH_TOLERANCE = 1e-4, 1e-3
"""Of float32 sums in another order, relative to the largest entry; across devices they grow."""


def check_estimator(
    estimator: GradientEstimator,
    task: Task,
    optimizer: LearnedOptimizer,
    *,
    on_mesh: GradientEstimator | None = None,
) -> None:
    """Tries an estimator of the meta-gradient as `meta_train` will use it.

    Three estimates are made one after the other, and made again from the first state as a
    checkpoint holds it by a program compiled anew. Then eight fresh ones tell whether a small step
    against the meta-gradient lowers the meta-loss. Checked are:

    - what it is: a pytree of arrays with none in static fields, the task's data among its leaves;
    - what `init` and `estimate` return: four values; a scalar meta-loss; a meta-gradient of the
      meta-parameters' structure, shapes and dtypes; a state that keeps its own; metrics that are
      numbers, under names that records have not taken; all finite but the metrics;
    - that they are pure and compiled once: equal arguments give equal results;
    - that the meta-gradient is not 0, and does not point uphill in every draw;
    - that several devices give what one gives, if told of them.

    Args:
        estimator: yours, on a small problem: it is called about thirty times.
        task: what it was made for; of several, one.
        optimizer: the learned optimizer that it trains. Its fresh meta-parameters are used.
        on_mesh: the same estimator spread over devices (made with a `mesh`), whose meta-losses and
            meta-gradients must be those of `estimator`.

    Raises:
        TypeError, ValueError: in one sentence, with what is wrong and what to do.

    Example:
        >>> from l2ljax import lstm, tasks, truncated_bptt
        >>> task, optimizer = tasks.quadratic(2), lstm((2,))
        >>> options = {"num_tasks": 2, "episode_length": 2, "unroll_length": 2}
        >>> check_estimator(truncated_bptt(task, optimizer, **options), task, optimizer)
    """
    check_task(task)
    check_optimizer("optimizer", optimizer)
    _check_fields(estimator, task)
    _check_stages(estimator)
    meta_params = optimizer.init(jax.random.key(0))
    if not jax.tree.leaves(meta_params):
        raise ValueError("init of this learned optimizer gives no meta-parameters to train.")
    program = Program(estimator)
    start = program.start(meta_params, key=1)
    first = list(program.estimates(meta_params, start))
    _check_dtypes(start, first[0].state)
    _check_values(first)
    saved = jax.tree.map(lambda leaf: placed_like(on_host(leaf), leaf), start)
    again = Program(estimator).estimates(meta_params, saved)
    for place, (one, other) in enumerate(zip(first, again, strict=True)):
        _compare(one, other, TOLERANCE, f"{_AGAIN} at {name_of(place)}", _PURE)
    _check_direction(program, meta_params)
    if on_mesh is not None:
        check_crossing("on_mesh", on_mesh)
        spread = Program(on_mesh)
        found = spread.estimates(meta_params, spread.start(meta_params, key=1))
        for place, (one, other) in enumerate(zip(first, found, strict=True)):
            what = f"on one device and on those of on_mesh at {name_of(place)}"
            _compare(one[:2], other[:2], MESH_TOLERANCE, what, _SPREAD)


_AGAIN = "when it is run again from the same state with the same keys"
_PURE = "keep whatever changes in the state, and draw from the key alone"
_SPREAD = (
    "give each task the same key on any device, and take means over all (l2ljax.parallel."
    "over_tasks, mean_over_tasks)"
)
_STATIC = "leave static fields for sizes and functions, and let arrays be leaves of the pytree"


def _check_fields(estimator: GradientEstimator, task: Task) -> None:
    """It is a pytree of arrays, the task's data among them."""
    check_crossing("estimator", estimator)
    for static in _static_fields(jax.tree.structure(estimator)):
        if isinstance(static, jax.Array | np.ndarray):
            raise TypeError(
                f"A static field of this estimator holds an array ({kind_of(static)}), which "
                f"jax.jit can neither hash nor compare; {_STATIC}."
            )
    leaves = jax.tree.leaves(estimator)
    for path, data in jax.tree_util.tree_leaves_with_path(task.data):
        same = any(leaf is data for leaf in leaves)
        if not same and not any(_equal(leaf, data) for leaf in leaves):
            raise ValueError(
                f"No leaf of this estimator is task.data's {path_name(path)} ({dtype_of(data)} "
                f"{list(jnp.shape(data))}), which would be a constant of the compiled program; "
                "let the task be a field that is not static."
            )


def _static_fields(structure: Any) -> Iterator[Any]:
    """What is in no leaf: of dataclasses the values of static fields, of dicts their keys."""
    kind, fields = structure.node_data() or (None, ())
    if kind is not None:
        yield from jax.tree.leaves(fields)
    for child in structure.children():
        yield from _static_fields(child)


def _equal(one: Any, other: Any) -> bool:
    """Of arrays on different devices, as a mesh has them."""
    if jnp.shape(one) != jnp.shape(other) or dtype_of(one) != dtype_of(other):
        return False
    return bool(np.array_equal(on_host(one), on_host(other)))


def _check_stages(estimator: GradientEstimator) -> None:
    """`at` may change the program on the way, and not from call to call."""
    one, again = (jax.tree.structure(estimator.at(0)) for _ in range(2))
    if one != again:
        raise ValueError(
            "at(0) of this estimator returns one with other static fields each time, so that every "
            f"meta-update is compiled anew; {_STATIC}, made once."
        )


def _check_dtypes(start: PyTree, after: PyTree) -> None:
    """Weak dtypes are as much part of a program as dtypes are; `check_returned` saw the rest."""
    for (name, one), other in zip(leaves_of(start), jax.tree.leaves(after), strict=True):
        weak = jax.typeof(one).weak_type, jax.typeof(other).weak_type
        if weak[0] != weak[1]:
            raise TypeError(
                f"The state's {name} is weakly typed, as what comes of a Python number is, in what "
                f"{'init' if weak[0] else 'estimate'}() returns alone, so that the step is "
                "compiled twice; give it a dtype, as jnp.asarray(value, dtype) does."
            )


def _check_values(found: list[Estimate]) -> None:
    for place, one in enumerate(found):
        for name, leaf in leaves_of({"meta-loss": one.meta_loss, "meta-gradient": one[1]}):
            if not np.isfinite(on_host(leaf).astype(np.float64)).all():
                raise ValueError(
                    f"{name_of(place).capitalize()} of this estimator gives a {name} that is not "
                    "finite; leave optimizees that diverged out of the mean, or check on a "
                    "problem where none does."
                )
    if not any(np.any(on_host(leaf)) for one in found for leaf in jax.tree.leaves(one[1])):
        raise ValueError(
            f"The meta-gradient of this estimator is 0 in every entry of {NUM_ESTIMATES} "
            "estimates, so that nothing can be learned; let the meta-loss that it differentiates "
            "depend on meta_params."
        )


def _check_direction(program: Program, meta_params: MetaParams) -> None:
    """A sign that is wrong raises the meta-loss in every draw, noise does so in some."""
    uphill = 0
    for draw in range(NUM_DRAWS):
        state = program.start(meta_params, key=2 + draw)
        found = program.estimate(meta_params, state, 0)
        norm = float(optax.tree.norm(found.meta_gradient))
        if not 0 < norm < np.inf:
            return
        length = 1e-3 * max(1.0, float(optax.tree.norm(meta_params))) / norm
        up, down = (
            float(program.estimate(_moved(meta_params, found[1], step), state, 0).meta_loss)
            for step in (length, -length)
        )
        uphill += down - up > 1e-6 * abs(float(found.meta_loss))
    if uphill == NUM_DRAWS:
        raise ValueError(
            f"A small step against the meta-gradient of this estimator raises its meta-loss in all "
            f"of {NUM_DRAWS} draws; return the gradient of the meta-loss, not its negative."
        )


def _moved(meta_params: MetaParams, direction: MetaParams, length: float) -> MetaParams:
    return jax.tree.map(lambda p, d: p + jnp.asarray(length * d, p.dtype), meta_params, direction)


def _compare(one: Any, other: Any, tolerance: float, what: str, remedy: str) -> None:
    ours = leaves_of(dict(zip(_NAMES, one, strict=False)))
    theirs = jax.tree.leaves(dict(zip(_NAMES, other, strict=False)))
    for (name, a), b in zip(ours, theirs, strict=True):
        a, b = on_host(a).astype(np.float64), on_host(b).astype(np.float64)
        scale = np.abs(a[np.isfinite(a)]).max(initial=1e-6)
        if not np.allclose(a, b, rtol=0, atol=tolerance * scale, equal_nan=True):
            worst = np.abs(a - b).max(initial=0)
            raise ValueError(
                f"This estimator gives different results {what}: {name} differs by {worst:.3g} of "
                f"{scale:.3g}; {remedy}."
            )


_NAMES = ("meta-loss", "meta-gradient", "state", "metrics")
