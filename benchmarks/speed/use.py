"""What an update costs its user: every learned optimizer beside Optax's own, at two sizes.

One step is `tx.update` and `optax.apply_updates`, its arguments donated, on one square matrix or on
the tree of a small transformer. Meta-parameters are fresh: what an update costs does not depend on
them.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import l2ljax
from l2ljax import optimizers

SHAPES = ("1M-matrix", "10M-matrix", "10M-transformer")

ADAMW = {
    "make_tx": optax.adamw,
    "start": {"learning_rate": l2ljax.log(1e-3), "b1": l2ljax.logit(0.9)},
    "schedule": "piecewise",
    "num_steps": 1000,
}

LEARNED: dict[str, dict[str, Any]] = {
    "hyperparameters": ADAMW,
    "lstm": {},
    "nominal": {},
    "rnnprop": {},
    "small_fc": {"hidden_sizes": (4, 4)},
    "celo2": {"orthogonalize": False},
    "celo": {"num_steps": 1000},
    "celo_adam": {"num_steps": 1000},
    "velo": {"num_steps": 1000},
}
"""Name of a builder -> its arguments here. One that is not there is left out."""

HAND_MADE: dict[str, Callable[[], Any]] = {
    "adam": lambda: optax.adam(1e-3),
    "adamw": lambda: optax.adamw(1e-3),
    "muon": lambda: optax.contrib.muon(1e-3),
    "schedule-free adamw": lambda: optax.contrib.schedule_free_adamw(1e-3),
}


GUARDED = {
    "guarded nominal": lambda: l2ljax.guard(make_transform("nominal"), optax.adam(1e-3)),
    "guarded adamw": lambda: l2ljax.guard(optax.adamw(1e-3), optax.adam(1e-3)),
}


def make_params(shape: str) -> Any:
    """Parameters of about 1 or 10 million numbers.

    A transformer's: an embedding, and blocks of four attention matrices, two wide ones and the
    scales and offsets of two normalisations.
    """
    if shape.endswith("matrix"):
        width = {"1M-matrix": 1000, "10M-matrix": 3162}[shape]
        return {"kernel": jnp.full((width, width), 0.1)}
    width, blocks = 256, 12

    def block() -> dict[str, jax.Array]:
        attention = {name: jnp.full((width, width), 0.1) for name in "qkvo"}
        wide = {"up": jnp.full((width, 4 * width), 0.1), "down": jnp.full((4 * width, width), 0.1)}
        small = {name: jnp.full(width, 0.1) for name in ("scale_0", "offset_0", "scale_1")}
        return attention | wide | small

    tree: dict[str, Any] = {f"block_{i}": block() for i in range(blocks)}
    return tree | {"embed": jnp.full((2048, width), 0.1)}


def make_transform(name: str) -> Any:
    """The transformation called `name` in `HAND_MADE`, `GUARDED` or `LEARNED`."""
    if name in HAND_MADE | GUARDED:
        return (HAND_MADE | GUARDED)[name]()
    optimizer = optimizers.BUILDERS[name](**LEARNED[name])
    return optimizer.transform(optimizer.init(jax.random.key(0)))


def make_step(name: str, shape: str) -> tuple[Callable[[Any], Any], Any]:
    """`(step, state)`: one update of the parameters in `state` by gradients like them."""
    return step_of(make_transform(name), make_params(shape))


def step_of(tx: Any, params: Any) -> tuple[Callable[[Any], Any], Any]:
    """The same of a transformation and parameters of any other origin."""
    tx = optax.with_extra_args_support(tx)

    def step(state):
        params, opt_state = state
        gradients = jax.tree.map(lambda p: 1e-3 * p, params)
        updates, opt_state = tx.update(gradients, opt_state, params, value=jnp.float32(1.0))
        return optax.apply_updates(params, updates), opt_state

    return step, (params, tx.init(params))


def names() -> list[str]:
    """Those of `HAND_MADE`, the guarded ones, and the learned ones that this version has."""
    return [*HAND_MADE, *GUARDED, *(name for name in LEARNED if name in optimizers.BUILDERS)]


def works(plain_work: Callable[..., Any]) -> dict[str, dict[str, Callable[[], Any]]]:
    """Works for `works.WORKS`: one a shape, "use-10M-matrix", one variant an optimizer."""
    return {
        f"use-{shape}": {
            name: functools.partial(plain_work, functools.partial(make_step, name, shape))
            for name in names()
        }
        for shape in SHAPES
    }
