"""Meshes as people make them: with Explicit axes, and inside a program that has set another.

What is expected is what one device without any mesh finds. A CPU can pose as several devices, but
only from before JAX starts: this file is also the script that does.
"""

import contextlib
import functools
import json
import os
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
import quick

import l2ljax

OPTIMIZER = l2ljax.lstm((), l2ljax.identity())  # linear: quick to compile
TASK = l2ljax.tasks.quadratic(2)
COUNTS = {"num_tasks": 4, "num_steps": 2}


def explicit(*axes, sizes=(4,)):
    """As `jax.make_mesh` makes them where nothing is said."""
    return jax.make_mesh(sizes, axes)


# name -> (the estimator's mesh, the context mesh)
CASES = {
    "explicit": lambda: (explicit("tasks"), None),
    "explicit-coordinates": lambda: (explicit("tasks", "coordinates", sizes=(2, 2)), None),
    "explicit-model-axis": lambda: (explicit("tasks", "model", sizes=(2, 2)), None),
    "inside-explicit": lambda: (l2ljax.task_mesh(4), explicit("model")),
    "inside-itself": lambda: (explicit("tasks"), explicit("tasks")),
    "no-mesh-inside-explicit": lambda: (None, explicit("model")),
}
ALONE = {"alone": lambda: (None, None)}


def observe(case, backward="recorded"):
    """Numbers of a run of two updates, made from keys and weights of the context mesh."""
    mesh, context = case()
    with jax.set_mesh(context) if context is not None else contextlib.nullcontext():
        meta_params = OPTIMIZER.init(jax.random.key(0))
        estimator = l2ljax.truncated_bptt(
            TASK, OPTIMIZER, num_tasks=4, episode_length=4, unroll_length=2,
            mesh=mesh, backward=backward,
        )  # fmt: skip
        validation = l2ljax.Validation(
            task=TASK, optimizer=OPTIMIZER, key=jax.random.key(9), mesh=mesh, **COUNTS
        )
        result = l2ljax.meta_train(
            estimator, optax.sgd(0.1), meta_params, jax.random.key(1), num_meta_updates=2,
            validation=validation, log_every=1,
        )  # fmt: skip
    losses = [record[k] for record in result.history for k in record if k.endswith("loss")]
    return [*losses, result.best_score]


def observe_alone(case, make=l2ljax.truncated_bptt, **options):
    """An estimator used by itself, not by `meta_train`."""
    mesh, context = case()
    with jax.set_mesh(context) if context is not None else contextlib.nullcontext():
        meta_params = OPTIMIZER.init(jax.random.key(0))
        estimator = make(
            TASK, OPTIMIZER, num_tasks=4, episode_length=4, unroll_length=2, mesh=mesh, **options
        )
        state = estimator.init(jax.random.key(1), meta_params)
        loss, gradients, *_ = estimator.estimate(meta_params, state, jax.random.key(2))
    return [float(loss), *np.asarray(gradients["params"]["readout"]).tolist()]


ES = {"make": l2ljax.es, "num_perturbations": 2, "sigma": 0.1}
OBSERVE = {name: functools.partial(observe, case) for name, case in CASES.items()} | {
    "scan": functools.partial(observe, CASES["explicit"], backward="scan"),
    "estimate-explicit": functools.partial(observe_alone, CASES["explicit"]),
    "estimate-inside-explicit": functools.partial(observe_alone, CASES["inside-explicit"]),
    "es-inside-explicit": functools.partial(observe_alone, CASES["inside-explicit"], **ES),
}
EXPECTED = {
    "run": functools.partial(observe, lambda: (None, None)),
    "estimate": functools.partial(observe_alone, lambda: (None, None)),
    "es": functools.partial(observe_alone, lambda: (None, None), **ES),
}
QUICK = ("explicit", "inside-explicit")


@functools.cache
def observations(*names):
    """What each of `names` finds, in a process with four devices."""
    child = subprocess.run(
        [sys.executable, __file__, *names],
        env=os.environ | quick.devices(4),
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


@pytest.mark.parametrize("name", QUICK)
def test_a_mesh_changes_nothing_but_the_order_of_sums(name):
    """Two updates and a validation."""
    found = observations("run", *QUICK, "refusal")
    assert len(found["run"]) == 4
    np.testing.assert_allclose(found[name], found["run"], rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in OBSERVE if name not in QUICK])
def test_nor_do_other_meshes(name):
    """Axes of coordinates and of a model, the scan, and estimates by themselves."""
    found = observations(*EXPECTED, *(name for name in OBSERVE if name not in QUICK))
    prefix = name.partition("-")[0]
    expected = found[prefix if prefix in EXPECTED else "run"]
    np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-7)


def test_a_traced_computation_in_another_explicit_mesh_is_refused():
    """With what to do."""
    words = observations("run", *QUICK, "refusal")["refusal"]
    assert "'tasks': 4" in words
    assert "'model': 4" in words
    assert "outside jax.set_mesh" in words


def refusal():
    """What tracing an estimator in another context mesh says."""
    mesh, context = CASES["inside-explicit"]()
    validation = l2ljax.Validation(
        task=TASK, optimizer=OPTIMIZER, key=jax.random.key(9), mesh=mesh, **COUNTS
    )
    with jax.set_mesh(context):
        try:
            jax.jit(validation.score)(OPTIMIZER.init(jax.random.key(0)))
        except ValueError as error:
            return str(error)
    return "nothing"


if __name__ == "__main__":
    assert jax.device_count() == 4
    functions = OBSERVE | EXPECTED | {"refusal": refusal}
    print(json.dumps({name: functions[name]() for name in sys.argv[1:]}))
