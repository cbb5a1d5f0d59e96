"""What a learned rule does with the gradients of one coordinate: its updates and its state."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from l2ljax import optimizers
from l2ljax.base import LearnedOptimizer, MetaParams
from l2ljax.base.words import path_name
from l2ljax.checks import shorten

BEFORE = 20
"""Gradients of a history."""

HISTORIES: dict[str, np.ndarray] = {  # the first alone is empty
    "no history": np.zeros(0),
    f"after {BEFORE} gradients of 1": np.ones(BEFORE),
    f"after {BEFORE} gradients of -1": -np.ones(BEFORE),
    f"after {BEFORE} of 1 and -1 in turn": np.resize([1.0, -1.0], BEFORE),
    f"after {BEFORE} gradients of 0.01": np.full(BEFORE, 0.01),
}

SEQUENCE = np.concatenate([np.ones(20), np.resize([1.0, -1.0], 20), np.geomspace(1.0, 1e-3, 20)])
"""Gradients that the state is shown for: steady, of changing sign, dying down."""

_HALF = np.unique(np.concatenate([np.geomspace(1e-5, 2.0, 60), np.linspace(0.02, 2.0, 60)]))
VALUES = np.concatenate([-_HALF[::-1], [0.0], _HALF])
"""Of the next gradient."""

MOST_ROWS = 160
"""Numbers of the state that are shown."""


class Behaviour(NamedTuple):
    """One rule on one coordinate.

    Attributes:
        label: of a partition's member, or "".
        responses: name in `HISTORIES` -> the update for each of `VALUES`.
        updates: on `SEQUENCE`.
        state: name of a number of the state -> its values after each step of `SEQUENCE`.
        num_state: how many numbers of the state change in all.
    """

    label: str
    responses: dict[str, np.ndarray]
    updates: np.ndarray
    state: dict[str, np.ndarray]
    num_state: int


def behaviours(
    optimizer: LearnedOptimizer, meta_params: MetaParams
) -> tuple[list[Behaviour], list[str]]:
    """What the rule does; of a partition, what each member does.

    The coordinate is a parameter of one number, 1, which stays; a rule that reads the loss is told
    1 at each step.

    Returns:
        the behaviours, and for each rule that cannot be run so, a sentence that says why.

    Example:
        >>> found, failed = behaviours(
        ...     LearnedOptimizer(lambda key: 0.5, lambda rate: optax.sgd(rate)), 0.5
        ... )
        >>> at_one = found[0].responses["no history"][VALUES == 1.0]
        >>> bool(np.allclose(found[0].updates, -0.5 * SEQUENCE)), failed
        (True, [])
    """
    found, failed = [], []
    for label, (member, weights) in _members(optimizer, meta_params).items():
        try:
            found.append(_behaviour(label, member.transform(weights)))
        except Exception as error:  # whatever a rule of somebody's own raises
            who = f"The rule {label!r}" if label else "The rule"
            reason = shorten(f"{type(error).__name__}: {error}", 300)
            failed.append(f"{who} cannot be run on a coordinate alone ({reason}).")
    return found, failed


def _members(optimizer: LearnedOptimizer, meta_params: MetaParams) -> dict[str, tuple[Any, Any]]:
    """The rule itself, or those of a partition: their labels need no parameters then."""
    specification: Mapping[str, Any] = optimizer.specification or {}
    parts = specification.get("optimizers")
    if specification.get("name") != "partition" or not isinstance(parts, Mapping):
        return {"": (optimizer, meta_params)}
    return {label: (optimizers.build(one), meta_params[label]) for label, one in parts.items()}


def _behaviour(label: str, tx: optax.GradientTransformation) -> Behaviour:
    tx = optax.with_extra_args_support(tx)
    params = jnp.ones(1)
    start = tx.init(params)

    def update(state: Any, gradient: jax.Array) -> tuple[Any, jax.Array]:
        grads = jnp.full(1, gradient, jnp.float32)
        updates, state = tx.update(grads, state, params, value=jnp.float32(1.0))
        return state, jnp.asarray(updates)[0]

    def run(gradients: jax.Array) -> tuple[Any, tuple[jax.Array, Any]]:
        def step(state, gradient):
            state, made = update(state, gradient)
            return state, (made, state)

        return jax.lax.scan(step, start, gradients)

    @jax.jit
    def watch(histories: jax.Array, values: jax.Array, sequence: jax.Array) -> Any:
        seen = jax.lax.map(lambda history: run(history)[0], histories)
        states = jax.tree.map(lambda a, b: jnp.concatenate([jnp.asarray(a)[None], b]), start, seen)

        def respond(numbered: tuple[jax.Array, Any]) -> jax.Array:
            return jax.lax.map(lambda g: update(numbered[1], g)[1], values)

        each = jax.lax.map(respond, (jnp.arange(len(HISTORIES)), states))  # a state may be empty
        return each, run(sequence)[1]

    first, *others = HISTORIES
    given = (np.stack([HISTORIES[name] for name in others]), VALUES, SEQUENCE)
    each, (updates, states) = watch(*(jnp.asarray(one, jnp.float32) for one in given))
    responses = dict(zip([first, *others], np.asarray(each), strict=True))
    state = _numbers(states)
    shown = dict(list(state.items())[:MOST_ROWS])
    return Behaviour(label, responses, np.asarray(updates), shown, len(state))


def _numbers(states: Any) -> dict[str, np.ndarray]:
    """Numbers of the state that change, an LSTM's hidden ones alone where it has some."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(states):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue
        rows = np.asarray(leaf, np.float64).reshape(len(SEQUENCE), -1).T
        for index, row in enumerate(rows):
            if np.ptp(np.nan_to_num(row)) > 0:
                found[f"{path_name(path)} {index + 1}" if len(rows) > 1 else path_name(path)] = row
    hidden = {name: row for name, row in found.items() if "hidden" in name}
    return hidden or found
