"""Optimizees side by side: as many as a CPU's caches hold, and the same losses however many."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.evaluation import evaluate
from l2ljax.tasks import quadratic
from l2ljax.training.validation import Validation
from l2ljax.unrolling import side_by_side
from l2ljax.unrolling.side_by_side import CACHE, fitting, map_side_by_side


def test_as_many_as_fit():
    """By bytes of what a step carries, keys and integers included; at least one."""
    assert fitting(jax.ShapeDtypeStruct((CACHE // 8,), jnp.float32)) == 2
    assert fitting(jax.ShapeDtypeStruct((CACHE // 8 + 1,), jnp.float32)) == 1
    assert fitting(jax.ShapeDtypeStruct((CACHE,), jnp.float32)) == 1
    assert fitting({"state": jnp.zeros(CACHE // 16, jnp.bfloat16), "none": None}) == 8
    assert fitting((jnp.zeros(2, jnp.int32), jax.random.key(0))) == CACHE // 16
    assert fitting(()) == CACHE


def test_accelerators_run_what_they_are_told(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert fitting(jax.ShapeDtypeStruct((CACHE,), jnp.float32)) > 1e6


@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_every_key_once_in_order(most):
    keys = jax.random.split(jax.random.key(0), 5)
    found = map_side_by_side(jax.random.normal, keys, jnp.zeros(3), most)
    np.testing.assert_array_equal(found, jax.vmap(jax.random.normal)(keys))


def test_losses_do_not_depend_on_it(monkeypatch):
    """Of an evaluation and of a validation's score: one at a time, as where one fills the cache."""

    def measured():
        sizes, key = {"num_tasks": 5, "num_steps": 4}, jax.random.key(3)
        task, tx = quadratic(3), optax.adam(0.1)  # new functions, so a new program
        validation = Validation(task=task, optimizer=OPTIMIZER, key=key, **sizes)
        return evaluate(task, tx, key, **sizes), validation.score(META_PARAMS)

    together = measured()
    monkeypatch.setattr(side_by_side, "CACHE", 1)
    for a, b in zip(together, measured(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def _rate():
    from l2ljax.optimizers import hyperparameters, log

    return hyperparameters(optax.sgd, {"learning_rate": log(1e-2)})


OPTIMIZER = _rate()
META_PARAMS = OPTIMIZER.init(jax.random.key(0))
