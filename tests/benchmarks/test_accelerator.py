"""The bench of an accelerator outlives what fails, and names every variant once."""

import threading
import time

import jax
import jax.numpy as jnp
import pytest
from accelerator_works import TILINGS, Job, jobs, layer_arrays, layer_maker
from turns import Measured, make_all, markdown

LATE = 2.0  # seconds


def good():
    return jax.jit(lambda x: x + 1), jnp.zeros(()), {"compile_s": 0.5}


def bad():
    raise ValueError("no | such\nthing")


def slow():
    time.sleep(2 * LATE)
    return good()


def breaks():
    def step(state):
        raise RuntimeError("out of memory")

    return step, jnp.zeros(()), {}


@pytest.fixture
def _ends_alone():
    """What is made too late says so in this test, not in the output of another."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(10 * LATE)


@pytest.mark.usefixtures("_ends_alone")
def test_failures_are_rows():
    """One that cannot be made, one that takes too long, one that cannot run."""
    makers = {"good": good, "bad": bad, "breaks": breaks, "slow": slow}
    asked = [Job("work", name, make, False) for name, make in makers.items()]
    measured = Measured()
    measured.add(asked, make_all(asked, 4, time.perf_counter() + LATE), 1e-3)
    for _ in range(3):
        measured.round(time.perf_counter() + LATE)
    rows = {row["variant"]: row for row in measured.rows()}
    assert rows["good"]["rounds"] == 3
    assert rows["good"]["least"] <= rows["good"]["seconds"] <= rows["good"]["most"]
    assert rows["bad"]["error"] == "ValueError: no / such thing"
    assert rows["breaks"]["error"] == "RuntimeError: out of memory"
    assert rows["slow"]["error"] == "it was not compiled in time"
    table = markdown(measured.rows())
    assert "| bad | ValueError: no / such thing |" in table
    assert "| 1.00 | 0.0 | 0.5 |" in table


def test_every_variant_has_a_name_of_its_own():
    """And works with the kernel know it, as they are compiled last."""
    found = jobs("pallas", list(TILINGS), (100, 200))
    names = [(job.work, job.variant) for job in found]
    assert len(set(names)) == len(names)
    assert {job.uses_kernel for job in found if "pallas" in job.variant} == {True}
    assert not any(job.uses_kernel for job in found if "pallas" not in job.variant)


@pytest.mark.parametrize("tiling", [None, TILINGS["64 x 4 warps"]], ids=["plain", "kernel"])
def test_a_layer_alone_is_timed(tiling):
    """Its VJP gives back a cotangent for each of its arguments."""
    step, arrays, report = layer_maker((1, 2), 70, "VJP", tiling, "interpreted")()
    assert step(arrays) is arrays
    shapes = [x.shape for x in layer_arrays(1, 2, 70)[:4]]
    assert [x.shape for x in step.output(arrays)] == shapes == [(8, 4), (1, 70), (2, 70), (2, 70)]
    assert report["compile_s"] > 0
