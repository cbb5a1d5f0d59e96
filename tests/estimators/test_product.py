"""Every estimator x every learned optimizer x every kind of task, on one device and on eight.

The whole product takes an hour and more: `pytest -m long tests/estimators/test_product.py`.
"""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import product
import pytest
import quick

from l2ljax import estimators, optimizers

COVERING = (
    "curriculum/wrap/single",
    "es/hyperparameters/mixture",
    "full_es/rnnprop/transformed",
    "gpes/lstm/single",
    "imitation/celo_adam/single",
    "mixture/partition/single",
    "nres/nominal/single",
    "pes/celo2/single",
    "scan/velo/single",
    "staggered/celo/single",
    "truncated_bptt/small_fc/single",
)
"""Every estimator once, every optimizer once, and each kind."""


def judge(names):
    """Two meta-updates of each case, equal to 1e-5, with every update made."""
    done = subprocess.run(
        [sys.executable, product.__file__, *names],
        env=os.environ | quick.devices(8),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cases = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [case["case"] for case in cases] == list(names)
    for case in cases:
        one, every = case["one"], case["all"]
        np.testing.assert_allclose(every["losses"], one["losses"], rtol=1e-5, err_msg=case["case"])
        for a, b in zip(
            jax.tree.leaves(every["moved"]), jax.tree.leaves(one["moved"]), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5, err_msg=case["case"])
        # The two updates have the length 0.1 each, so that 1e-5 says something.
        assert np.linalg.norm(jax.tree.leaves(one["moved"])) > 0.05, case["case"]
        assert one["faults"] == every["faults"] == 0, case["case"]


def test_nothing_is_left_out():
    """The lists hold each builder, and the covering sample each of the lists."""
    kinds = {"scan": "truncated_bptt", "staggered": "truncated_bptt"}
    assert {kinds.get(name, name) for name in product.ESTIMATORS} == set(estimators.BUILDERS)
    assert set(product.OPTIMIZERS) == set(optimizers.BUILDERS)
    for place, names in enumerate((product.ESTIMATORS, product.OPTIMIZERS, product.KINDS)):
        assert {case.split("/")[place] for case in COVERING} == set(names)


@pytest.mark.long
def test_a_covering_sample():
    judge(COVERING)


@pytest.mark.long
@pytest.mark.parametrize("kind", product.KINDS)
@pytest.mark.parametrize("estimator", product.ESTIMATORS)
def test_the_whole_product(estimator, kind):
    judge([f"{estimator}/{optimizer}/{kind}" for optimizer in product.OPTIMIZERS])
