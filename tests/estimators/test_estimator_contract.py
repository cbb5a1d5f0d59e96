"""What every gradient estimator holds. A new one joins with a line in CASES."""

import jax
import jax.numpy as jnp
import optax
import pytest

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


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, jax.typeof(x).weak_type), tree)


def test_results_have_the_types_of_the_contract(make):
    """A float32 scalar, a gradient like the meta-parameters, a state like the state."""
    estimator, meta_params, state = started(make, quadratic(3))
    loss, grads, next_state, metrics = ESTIMATE(estimator, meta_params, state, jax.random.key(2))
    assert (loss.shape, loss.dtype) == ((), jnp.float32)
    assert types(grads) == types(meta_params)
    assert types(next_state) == types(state)
    assert all(isinstance(value, jax.Array) for value in jax.tree.leaves(metrics))
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))


def test_estimate_is_pure(make):
    """Equal arguments give equal results, another key gives another meta-loss."""
    estimator, meta_params, state = started(make, quadratic(3))
    # Metrics of a mixture are NaN in others' turns.
    first, again, other = (
        ESTIMATE(estimator, meta_params, state, jax.random.key(k)) for k in (2, 2, 3)
    )
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(((a == b) | (a != a)).all()), first, again))
    assert float(first[0]) != float(other[0])


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
    for step in range(5):
        _, _, state, _ = ESTIMATE(estimator, meta_params, state, jax.random.key(step))
        if step == 0:
            traced = len(traces)
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
