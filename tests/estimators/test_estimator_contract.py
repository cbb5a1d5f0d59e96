"""What every gradient estimator holds. A new one joins with a line in CASES."""

import jax
import jax.numpy as jnp
import optax
import pytest

import l2ljax
from l2ljax.estimators import (
    curriculum,
    es,
    full_es,
    gpes,
    imitation,
    mixture,
    nres,
    pes,
    truncated_bptt,
)
from l2ljax.optimizers import lstm
from l2ljax.tasks import mlp, quadratic
from l2ljax.tasks.data import Images

WINDOWS = {"num_tasks": 2, "episode_length": 4, "unroll_length": 2}
NOISE = {"num_perturbations": 2, "sigma": 0.01}
CASES = {
    "es": lambda task: es(task, lstm((3,)), **WINDOWS, **NOISE),
    "pes": lambda task: pes(task, lstm((3,)), **WINDOWS, **NOISE),
    "nres": lambda task: nres(task, lstm((3,)), **WINDOWS, **NOISE),
    "gpes": lambda task: gpes(task, lstm((3,)), reuse_length=3, **WINDOWS, **NOISE),
    "mixture": lambda task: mixture(
        {
            "a": pes(task, lstm((3,)), **WINDOWS, **NOISE),
            "b": truncated_bptt(task, lstm((3,)), **(WINDOWS | {"num_tasks": 3})),
        }
    ),
    "curriculum": lambda task: curriculum(
        [
            (2, truncated_bptt(task, lstm((3,)), **WINDOWS)),
            (
                None,
                pes(task, lstm((3,)), **(WINDOWS | {"num_tasks": 3, "unroll_length": 1}), **NOISE),
            ),
        ]
    ),
    "imitation": lambda task: imitation(task, lstm((3,)), optax.adam(0.1), **WINDOWS, stagger=True),
    "full_es": lambda task: full_es(task, lstm((3,)), num_tasks=2, episode_length=4, **NOISE),
    "scan": lambda task: truncated_bptt(task, lstm((3,)), backward="scan", **WINDOWS),
    "recorded": lambda task: truncated_bptt(task, lstm((3,)), **WINDOWS),
    "staggered": lambda task: truncated_bptt(
        task, lstm((3,)), **(WINDOWS | {"episode_length": (2, 4)}), stagger=True
    ),
    "sampled": lambda task: truncated_bptt(task, lstm((3,)), coordinate_share=0.5, **WINDOWS),
}
pytestmark = pytest.mark.parametrize("make", CASES.values(), ids=CASES)
ESTIMATE = jax.jit(lambda estimator, *args: estimator.estimate(*args))


def started(make, task):
    estimator = make(task)
    meta_params = lstm((3,)).init(jax.random.key(0))
    return estimator, meta_params, estimator.init(jax.random.key(1), meta_params)


def test_the_public_check_accepts_it(make):
    """Kinds, purity, finite meta-gradients that do not point uphill: `check_estimator`'s list."""
    task = quadratic(3)
    l2ljax.check_estimator(make(task), task, lstm((3,)))


def test_windows_share_one_program(make):
    """All windows of an episode, and all episodes, run the same compiled function."""
    traces = []
    task = quadratic(3)

    def loss(params, batch):
        traces.append(None)
        return task.loss(params, batch)

    estimator, meta_params, state = started(
        make, type(task)(init=task.init, loss=loss, sample=task.sample)
    )
    start = state
    for step in range(5):
        _, _, state, _ = ESTIMATE(estimator, meta_params, state, jax.random.key(step))
        if step == 0:
            traced = len(traces)
    assert len(traces) == traced
    first, other = (ESTIMATE(estimator, meta_params, start, jax.random.key(k))[0] for k in (8, 9))
    assert (first.shape, first.dtype) == ((), jnp.float32)
    assert float(first) != float(other)  # another key draws other optimizees or minibatches
    assert len(traces) == traced


def test_data_are_arguments_not_constants(make):
    """A data set fifty times as large makes the same program, but for the shapes it names."""

    def program(num_images):
        images = Images(
            jnp.zeros((num_images, 8, 8, 1), jnp.uint8), jnp.zeros(num_images, jnp.int32)
        )
        estimator, meta_params, state = started(
            make, mlp(images, hidden_sizes=(2,), batch_size=4, num_classes=3)
        )
        assert any(leaf is images.images for leaf in jax.tree.leaves(estimator))
        return ESTIMATE.lower(estimator, meta_params, state, jax.random.key(0)).as_text()

    assert abs(len(program(5000)) - len(program(100))) < 200
