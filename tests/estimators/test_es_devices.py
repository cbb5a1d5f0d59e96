"""Two meta-updates of evolution strategies and staggered windows, on one device and on eight.

A CPU can pose as eight devices only from before JAX starts: this file is also a script.
"""

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
from l2ljax import parallel
from l2ljax.estimators import es, full_es, gpes, imitation, mixture, nres, pes, truncated_bptt
from l2ljax.optimizers import lstm
from l2ljax.tasks import quadratic
from l2ljax.training.loop import meta_train

WINDOWS = {"num_tasks": 8, "episode_length": 5, "unroll_length": 2}
TASK, OPTIMIZER = quadratic(3), lstm((3,))
NOISE = {"num_perturbations": 2, "sigma": 0.05}


def estimators(mesh):
    task, optimizer = TASK, OPTIMIZER
    options = {"mesh": mesh, **WINDOWS, **NOISE}
    whole = {"num_tasks": 8, "episode_length": 4, "unroll_length": 2, "mesh": mesh}
    return {
        "es": es(task, optimizer, **options),
        "pes": pes(task, optimizer, perturbations_at_once=1, **options),
        "nres": nres(task, optimizer, **(options | {"episode_length": (3, 6)})),
        "gpes": gpes(task, optimizer, reuse_length=3, **options),
        "staggered": truncated_bptt(
            task, optimizer, **(whole | {"episode_length": (2, 6)}), stagger=True
        ),
        "imitation": imitation(task, optimizer, optax.adam(0.1), **whole),
        "full_es": full_es(task, optimizer, mesh=mesh, num_tasks=8, episode_length=3, **NOISE),
        "mixture": mixture(
            {"a": pes(task, optimizer, **options), "b": truncated_bptt(task, optimizer, **whole)}
        ),
    }


def main(num_devices):
    mesh = parallel.task_mesh(8, num_devices)
    found, on_one = {}, estimators(None)
    for name, estimator in estimators(mesh).items():
        if num_devices > 1:
            l2ljax.check_estimator(on_one[name], TASK, OPTIMIZER, on_mesh=estimator)
        meta_params = lstm((3,)).init(jax.random.key(0))
        result = meta_train(
            estimator, optax.sgd(0.01), meta_params, jax.random.key(1), num_meta_updates=2,
            log_every=1,
        )  # fmt: skip
        found[name] = {
            "phi": [np.asarray(x).tolist() for x in jax.tree.leaves(result.meta_params)],
            "losses": [entry["meta_loss"] for entry in result.history],
        }
    print(json.dumps(found))


@pytest.mark.long
def test_eight_devices_train_as_one():
    """And estimate as one by `check_estimator`, in the process of eight."""
    one, eight = (
        json.loads(
            subprocess.run(
                [sys.executable, __file__, str(number)],
                env=os.environ | quick.devices(number),
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()[-1]
        )
        for number in (1, 8)
    )
    for name, found in one.items():
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(eight[name]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=name)


if __name__ == "__main__":
    main(int(sys.argv[1]))
