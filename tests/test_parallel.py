"""Tasks spread over devices and processes: the same meta-gradients, runs that move between them."""

import json
import os
import socket
import subprocess
import sys

import device_run
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from device_run import KINDS, NUM_TASKS, OPTIMIZER, WINDOWS
from jax.sharding import AxisType

from l2ljax import parallel
from l2ljax.estimators import truncated_bptt
from l2ljax.optimizers import small_fc
from l2ljax.tasks import quadratic


def start(*arguments, devices):
    return subprocess.Popen(
        [sys.executable, device_run.__file__, *map(str, arguments)],
        env=os.environ | quick.devices(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child):
    out, err = child.communicate(timeout=900)
    assert child.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """Six updates on one device: what all others must agree with."""
    return finish(start(tmp_path_factory.mktemp("alone"), 1, 6, devices=1))


@pytest.fixture(scope="module")
def two_processes(workdir):
    """The first two updates, by two processes of four devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [start(workdir, 8, 2, 2, i, port, devices=4) for i in range(2)]
    return [finish(child) for child in children]


@pytest.fixture(scope="module")
def eight_devices(workdir, two_processes):
    """The next two, by one process of eight devices."""
    return finish(start(workdir, 8, 4, devices=8))


def assert_same_estimates(found, expected):
    # Sums over tasks in another order: float32 rounding, 6e-8 relative a term, of terms that
    # partly cancel.
    for kind in KINDS:
        for a, b in zip(
            jax.tree.leaves(found["estimates"][kind][0]),
            jax.tree.leaves(expected["estimates"][kind][0]),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        assert "tasks" in found["estimates"][kind][1]  # the optimizees stay spread out
    diverged = [np.asarray(where) >= 0 for *_, where in found["estimates"]["recorded"][0]]
    assert 0 < np.sum(diverged) < np.size(diverged)


def test_eight_devices_estimate_as_one(eight_devices, one_device):
    """Meta-loss, meta-gradient and losses of three windows, exact and sampled."""
    assert_same_estimates(eight_devices, one_device)


def test_devices_share_coordinates(eight_devices, one_device):
    """Two by tasks, four by coordinates (83, which four do not divide): one device's estimates."""
    found, (largest, varying) = eight_devices["parts"]
    for a, b in zip(
        jax.tree.leaves(found),
        jax.tree.leaves(one_device["estimates"]["recorded"][0]),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    # Sampled in each part: the largest of some hundred standard normal numbers.
    assert varying > 100
    assert largest < 4.5


def test_two_processes_estimate_as_one(two_processes, one_device):
    """Over gloo on loopback; both processes hold the result."""
    for found in two_processes:
        assert_same_estimates(found, one_device)


def test_sharded_data_stay_on_their_devices(two_processes, eight_devices):
    """Each of the eight tasks draws from its own device's eighth: their mean is always 3.5."""
    for found in (*two_processes, eight_devices):
        assert found["local draws"] == [3.5] * 3


@pytest.mark.parametrize("backward", ["scan", "recorded"])
def test_parameters_may_be_sharded_too(eight_devices, backward):
    """Over a second mesh axis, by a constraint in the task's `init`.

    Step by step only the losses are gathered; of parameters only sums over coordinates travel. The
    recorded pass cuts all coordinates into chunks, which is what it gathers for.
    """
    seen = eight_devices["sharded"][backward]
    assert max(seen["errors"]) < 1e-4
    assert seen["spec"] == ["tasks", "model"]
    if backward == "scan":
        assert set(seen["collectives"]) <= {"all-reduce", "all-gather"}
        assert seen["gathered"] <= NUM_TASKS * (WINDOWS["unroll_length"] + 1)


def test_a_run_moves_between_devices(two_processes, eight_devices, one_device, workdir):
    """Two updates on 2 x 4 devices, two on 8, two on 1: the run that one device makes."""
    last = finish(start(workdir, 1, 6, devices=1))
    np.testing.assert_allclose(last["losses"], one_device["losses"], rtol=1e-4)
    assert len(last["losses"]) == 6  # each update was written once
    np.testing.assert_allclose(last["score"], one_device["score"], rtol=1e-4)
    for a, b in zip(
        jax.tree.leaves(last["meta_params"]),
        jax.tree.leaves(one_device["meta_params"]),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)  # Adam divides by small numbers


def one_cpu_mesh(name):
    return jax.make_mesh((1,), (name,), axis_types=(jax.sharding.AxisType.Auto,))


def test_tasks_that_cannot_be_split_are_refused():
    """With the sizes, and what to choose."""
    fake = jax.sharding.AbstractMesh((3,), ("tasks",))
    with pytest.raises(ValueError, match="num_tasks=8 cannot be split over the 3 devices"):
        parallel.check_mesh(fake, 8, ())
    with pytest.raises(ValueError, match=r"leading axis that 3 devices divide, got .* \(64, 4"):
        parallel.check_mesh(fake, 3, jnp.zeros((64, 4)))
    with pytest.raises(ValueError, match="mesh must have an axis named 'tasks'"):
        truncated_bptt(quadratic(3), OPTIMIZER, mesh=one_cpu_mesh("data"), **WINDOWS)


def test_shared_coordinates_need_the_recorded_pass():
    """And devices that the coordinates' share divides."""
    mesh = jax.make_mesh((1, 1), ("tasks", "coordinates"), axis_types=(AxisType.Auto,) * 2)
    with pytest.raises(ValueError, match="'coordinates' needs the recorded backward pass"):
        truncated_bptt(quadratic(3), OPTIMIZER, mesh=mesh, backward="scan", **WINDOWS)
    with pytest.raises(ValueError, match=r'cannot share whole tensors; give .* "tasks" alone'):
        truncated_bptt(quadratic(3), small_fc((2,)), mesh=mesh, backward="recorded", **WINDOWS)
    with pytest.raises(ValueError, match="coordinate_devices=2 does not divide num_devices=1"):
        parallel.task_mesh(1, 1, coordinate_devices=2)


def test_more_devices_than_there_are_are_refused():
    """With both numbers."""
    with pytest.raises(ValueError, match=f"There are {jax.device_count()} devices, cannot use 99"):
        parallel.task_mesh(99, 99)
