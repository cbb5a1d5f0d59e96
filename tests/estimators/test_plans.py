"""How a recorded backward pass is cut: on a CPU for its cache, on an accelerator for its memory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from l2ljax import truncated_bptt
from l2ljax.estimators import backpropagation
from l2ljax.estimators.plans import ACCELERATOR, CPU, budget_on, plan_chunks
from l2ljax.optimizers import lstm
from l2ljax.tasks import quadratic
from l2ljax.unrolling.remat import steps_kept


def columns(*widths):
    """Shapes of states of 320 bytes a coordinate, as a 2 x 20 LSTM's are."""
    return tuple({"h": jax.ShapeDtypeStruct((80, n), jnp.float32)} for n in widths)


def test_plans_keep_to_their_budgets():
    """Snapshots and chunks as large as fit, activations before states before nested segments."""
    for num_steps in (1, 20, 100, 1000):
        for widths in ((10,), (15_910,), (12_000, 10_000), (10**6,)):
            plan = plan_chunks(columns(*widths), num_steps)
            snapshots = -(-num_steps // plan.segment_length)
            assert snapshots == 1 or snapshots * 320 * sum(widths) <= CPU.snapshot_bytes
            for size, remat in zip(plan.chunk_sizes, plan.remats, strict=True):
                steps = {"none": 4 * plan.segment_length, "step": plan.segment_length}
                if remat in steps:
                    assert size * steps[remat] * 320 <= CPU.chunk_bytes
    assert plan_chunks(columns(15_910), 20).segment_length == 5  # 4 x 5 MB
    assert plan_chunks(columns(15_910), 20).remats == ("none",)
    assert plan_chunks(columns(15_910), 1000).remats == ("nested",)
    assert plan_chunks(columns(15_910 // 2), 20, num_parts=2) == (5, (512,), ("none",))


def test_a_plan_takes_what_is_given():
    """A chunk size and a choice of rematerialisation, each alone too."""
    assert plan_chunks(columns(5000), 20, chunk_size=70, remat="step")[1:] == ((70,), ("step",))
    assert plan_chunks(columns(5000), 20, remat="nested").remats == ("nested",)
    assert plan_chunks(columns(100, 200), 20, chunk_size=7).chunk_sizes == (7, 7)
    counters = (jax.eval_shape(optax.sgd(0.1).init, jnp.zeros(3)),)
    assert plan_chunks(counters, 4).segment_length == 1  # no state, nothing to keep


def test_chunks_of_tensors_keep_to_their_budget():
    """At least one tensor, and as many as hold the coordinates of a chunk of coordinates."""
    state = {"m": jax.ShapeDtypeStruct((20, 30, 40), jnp.float32)}  # forty tensors of 600
    plan = plan_chunks((state,), 10, tensor_sizes=(600,))
    assert plan.chunk_sizes == (3,)
    assert plan.chunk_sizes[0] * plan.segment_length * 2400 <= CPU.chunk_bytes
    assert plan_chunks((state,), 10, chunk_size=7, tensor_sizes=(600,)).chunk_sizes == (1,)
    large = {"m": jax.ShapeDtypeStruct((3000, 3000, 2), jnp.float32)}
    assert plan_chunks((large,), 100, tensor_sizes=(9_000_000,))[1:] == ((1,), ("nested",))


def test_a_cpu_has_the_small_budget_and_every_accelerator_the_large_one():
    assert budget_on("cpu") is CPU
    assert [budget_on(name) for name in ("gpu", "tpu", "METAL")] == [ACCELERATOR] * 3
    cut = columns(127_280)
    assert plan_chunks(cut, 20) == plan_chunks(cut, 20, platform="cpu") == (20, (327,), ("none",))


@pytest.mark.parametrize("num_steps", [1, 20, 100, 1000, 10_000])
def test_an_accelerator_keeps_no_more_than_it_may(num_steps):
    """1 GiB of activations, 512 MiB of states unless one snapshot is more."""
    for widths in ((10,), (15_910,), (127_280,), (12_000, 10_000), (10**7,)):
        plan = plan_chunks(columns(*widths), num_steps, platform="gpu")
        snapshots = -(-num_steps // plan.segment_length)
        assert snapshots == 1 or snapshots * 320 * sum(widths) <= 2**29
        length = plan.segment_length
        steps = {"none": 4 * length, "step": length, "nested": steps_kept(length, "nested")}
        for size, remat in zip(plan.chunk_sizes, plan.remats, strict=True):
            assert size * steps[remat] * 320 <= 2**30 or size == 256
            assert size <= 2**20
            # Kept activations never cost chunks that leave the device idle.
            assert remat == "nested" or size >= min(2**16, *widths)


def test_eight_mnist_optimizees_are_one_chunk_on_an_accelerator():
    """Which took a twelfth of the time of the chunks that are a CPU's (docs/gpu.md)."""
    length, (size,), remats = plan_chunks(columns(8 * 15_910), 20, platform="gpu")
    assert (length, remats) == (2, ("none",))  # 13 snapshots of 41 MB would fit
    assert size >= 8 * 15_910
    (size,) = plan_chunks(columns(8 * 15_910), 20, platform="tpu").chunk_sizes
    assert size >= 8 * 15_910


def test_devices_with_memories_of_their_own_do_not_share_a_budget():
    """Two cores share a memory, two GPUs do not; copies on one device do."""
    alone = plan_chunks(columns(10**6), 20, platform="gpu")
    assert plan_chunks(columns(10**6), 20, num_parts=2, platform="gpu") == alone
    assert plan_chunks(columns(10**5), 20, num_parts=2).segment_length == 20
    assert plan_chunks(columns(15_910), 20, num_parts=2).segment_length == 10
    copied = plan_chunks(columns(10**5), 20, copies=4, platform="gpu")
    assert copied.segment_length == 5  # 4 snapshots of 32 MB, four times
    assert copied.chunk_sizes[0] * 4 * 5 * 320 <= 2**30 // 4


def test_an_lstms_states_are_as_many_bytes():
    optimizer = lstm((20, 20))
    tx = optimizer.transform(jax.eval_shape(optimizer.init, jax.random.key(0)))
    states = (jax.eval_shape(tx.init, jax.ShapeDtypeStruct((15_910,), jnp.float32)),)
    assert plan_chunks(states, 20) == plan_chunks(columns(15_910), 20)


def test_an_estimator_plans_for_the_devices_that_it_runs_on(monkeypatch):
    """Those of its mesh, else JAX's default."""
    options = []
    monkeypatch.setattr(
        backpropagation, "recorded_meta_gradient", lambda *arguments: options.append(arguments[-1])
    )
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    mesh = Mesh(np.array(jax.devices("cpu")[:1]), ("tasks",))
    for there in (None, mesh):
        estimator = truncated_bptt(
            quadratic(), lstm((2,)), num_tasks=1, episode_length=2, unroll_length=2, mesh=there
        )
        estimator._meta_gradient(estimator.task, {}, ())
    assert [of.of_plan[-1] for of in options] == ["gpu", "cpu"]


def test_what_is_given_is_taken_on_every_platform():
    for platform in ("cpu", "gpu"):
        plan = plan_chunks(columns(5000), 20, chunk_size=70, remat="step", platform=platform)
        assert plan[1:] == ((70,), ("step",))
        assert plan_chunks(columns(99), 20, chunk_size=7, platform=platform).chunk_sizes == (7,)
    tensors = ({"m": jax.ShapeDtypeStruct((20, 30, 400), jnp.float32)},)
    plan = plan_chunks(tensors, 10, platform="gpu", tensor_sizes=(600,))
    assert plan.segment_length == 1
    assert 400 <= plan.chunk_sizes[0] <= 2**20 // 600  # all four hundred tensors of 600 at once
