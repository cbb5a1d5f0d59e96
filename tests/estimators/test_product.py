"""Every estimator x every learned optimizer x every kind of task, on one device and on eight.

The whole product, 363 cases in 33 tests, is most of an hour of one core's time:
`pytest -m long -rP tests/estimators/test_product.py`. With `-k turn0` it is a third of them, in
which any two of its parts meet; `-k nres` is one estimator's.
"""

import json
import os
import subprocess
import sys

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
    """Two meta-updates of each case, with every update made: equal to 1e-5, or as rounding has it.

    Celo2's Newton-Schulz iteration multiplies small singular values by 3.4 five times over, and so
    their rounding. Such a case may differ by four times what it does on one device when all
    meta-parameters are nudged to their neighbours.
    """
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
    wrong = [why for case in cases for why in faults(case)]
    assert not wrong, "\n".join(wrong)


def faults(case):
    """What is wrong with a case, in a line each; prints how near it came."""
    one, every = case["one"], case["all"]
    apart = product.distance(one, every)
    rounding = max((product.distance(one, x) for x in case.get("rounded", [])), default=0.0)
    print(f"{case['case']}: equal to {apart:.1e}, rounding {rounding:.1e}, {case['seconds']} s")
    if one["faults"] or every["faults"]:
        yield f"{case['case']}: updates were skipped, {one['faults']} and {every['faults']}"
    if not apart <= max(1e-5, 4 * rounding):
        losses = f"meta-losses {one['losses']} and {every['losses']}"
        yield f"{case['case']}: apart by {apart:.1e}, rounding {rounding:.1e}; {losses}"
    # The two updates have the length 0.1 each, so that 1e-5 says something.
    length = np.linalg.norm(np.concatenate([np.ravel(x) for x in one["moved"]]))
    if not length > 0.05:
        yield f"{case['case']}: moved by {length:.1e} only"


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
@pytest.mark.parametrize("turn", range(3), ids="turn{}".format)
@pytest.mark.parametrize("estimator", product.ESTIMATORS)
def test_the_whole_product(estimator, turn):
    """The three turns are all cases; one of them alone has any two parts together."""
    kinds, shift = list(product.KINDS), list(product.ESTIMATORS).index(estimator) + turn
    judge(
        [
            f"{estimator}/{optimizer}/{kinds[(place + shift) % len(kinds)]}"
            for place, optimizer in enumerate(product.OPTIMIZERS)
        ]
    )
