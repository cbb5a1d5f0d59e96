"""Meshes as people make them: with Explicit axes, and inside a program that has set another.

What is expected is what one device without any mesh finds. A CPU can pose as several devices, but
only from before JAX starts: this file is also the script that does.
"""

import contextlib
import json
import os
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
import quick
from jax.sharding import AxisType

import l2ljax

OPTIMIZER = l2ljax.lstm((2,))
TASK = l2ljax.tasks.quadratic(2)
COUNTS = {"num_tasks": 4, "num_steps": 2}


def explicit(*axes, sizes=(4,)):
    """As `jax.make_mesh` makes them where nothing is said."""
    return jax.make_mesh(sizes, axes)


def automatic(*axes):
    return jax.make_mesh((4,), axes, axis_types=(AxisType.Auto,) * len(axes))


# name -> (the estimator's mesh, the context mesh)
CASES = {
    "explicit": lambda: (explicit("tasks"), None),
    "explicit-coordinates": lambda: (explicit("tasks", "coordinates", sizes=(2, 2)), None),
    "explicit-model-axis": lambda: (explicit("tasks", "model", sizes=(2, 2)), None),
    "inside-explicit": lambda: (l2ljax.task_mesh(4), explicit("model")),
    "inside-auto": lambda: (l2ljax.task_mesh(4), automatic("model")),
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
        state = estimator.init(jax.random.key(1), meta_params)
        loss, *_ = estimator.estimate(meta_params, state, jax.random.key(2))
    losses = [record[k] for record in result.history for k in record if k.endswith("loss")]
    return [*losses, result.best_score, float(loss)]


@pytest.fixture(scope="module")
def observations():
    """`observe` of every case, from a process with four devices."""
    child = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | quick.devices(4),
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


@pytest.mark.parametrize("name", [*CASES, "scan"])
def test_a_mesh_changes_nothing_but_the_order_of_sums(observations, name):
    """Meta-training, validation and an estimate by itself."""
    assert len(observations["alone"]) == 5
    np.testing.assert_allclose(observations[name], observations["alone"], rtol=1e-5)


def test_a_traced_computation_in_another_explicit_mesh_is_refused(observations):
    """With what to do."""
    words = observations["traced"]
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
    found = {name: observe(case) for name, case in (ALONE | CASES).items()}
    found["scan"] = observe(CASES["explicit"], backward="scan")
    print(json.dumps(found | {"traced": refusal()}))
