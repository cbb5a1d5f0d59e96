"""JAX's strict modes find the user's promotions and infinities: the library has none of its own."""

import jax
import numpy as np
import optax
import pytest

import l2ljax
from l2ljax.tasks.data import Images

OPTIMIZER = l2ljax.lstm((2,))
META_PARAMS = OPTIMIZER.init(jax.random.key(0))


def small_mlp():
    """Any pictures."""
    rng = np.random.default_rng(0)
    images = Images(rng.integers(0, 256, (8, 2, 2, 1), np.uint8), np.arange(8) % 2)
    return l2ljax.tasks.mlp(images, hidden_sizes=(2,), batch_size=4)


TASKS = {"quadratic": l2ljax.tasks.quadratic(2), "mlp": small_mlp()}
MODES = {
    "strict promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "debug_infs": lambda: jax.debug_infs(True),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("name", "backward"),
    [
        ("quadratic", "recorded"),
        pytest.param("mlp", "recorded", marks=pytest.mark.long),
        pytest.param("mlp", "scan", marks=pytest.mark.long),
    ],
)
def test_meta_training_and_evaluation_work(name, backward, mode):
    """Two windows and a validation, and what comes of them on fresh optimizees."""
    with MODES[mode]():
        estimator = l2ljax.truncated_bptt(
            TASKS[name],
            OPTIMIZER,
            num_tasks=2,
            episode_length=4,
            unroll_length=2,
            backward=backward,
            coordinate_share=0.5 if backward == "recorded" else 1.0,
        )
        validation = l2ljax.Validation(
            task=TASKS[name], optimizer=OPTIMIZER, key=jax.random.key(1), num_tasks=2, num_steps=2
        )
        result = l2ljax.meta_train(
            estimator,
            optax.sgd(1e-3),  # the powers of a count in Adam promote
            META_PARAMS,
            jax.random.key(2),
            num_meta_updates=2,
            validation=validation,
        )
        tx = OPTIMIZER.transform(result.meta_params)
        losses = l2ljax.evaluate(TASKS[name], tx, jax.random.key(3), num_tasks=2, num_steps=2)
    assert np.isfinite(losses).all()
    assert np.isfinite(result.best_score)


SOME = {"num_tasks": 2, "episode_length": (3, 6), "unroll_length": 3}
PAIRS = {"num_perturbations": 2, "sigma": 0.1}
ESTIMATORS = {
    "pes": lambda t, o: l2ljax.pes(t, o, **SOME, **PAIRS),
    "es": lambda t, o: l2ljax.es(t, o, reduction="mean", **SOME, **PAIRS),
    "full_es": lambda t, o: l2ljax.full_es(
        t, o, num_tasks=2, episode_length=(2, 4), reduction="last", **PAIRS
    ),
    "staggered": lambda t, o: l2ljax.truncated_bptt(t, o, stagger=True, **SOME),
    "imitation": lambda t, o: l2ljax.imitation(t, o, optax.sgd(0.1), stagger=True, **SOME),
    "mixture": lambda t, o: l2ljax.mixture({"a": l2ljax.nres(t, o, **SOME, **PAIRS)}),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_promotes_nothing(name):
    with jax.numpy_dtype_promotion("strict"):
        estimator = ESTIMATORS[name](TASKS["quadratic"], OPTIMIZER)
        state = estimator.init(jax.random.key(1), META_PARAMS)
        loss, *_ = estimator.estimate(META_PARAMS, state, jax.random.key(2))
    assert np.isfinite(loss)


def test_a_narrow_network_takes_a_large_parameter_block_by_block():
    with jax.numpy_dtype_promotion("strict"):
        optimizer = l2ljax.lstm((2,), dtype="bfloat16", block_size=8)
        params = jax.numpy.ones(20)
        tx = optimizer.transform(optimizer.init(jax.random.key(0)))
        updates, _ = tx.update(params, tx.init(params), params)
    assert updates.dtype == params.dtype


def test_no_score_yet_is_still_reported_as_infinite():
    """Though the state of a run holds a number in its place."""
    estimator = l2ljax.truncated_bptt(
        TASKS["quadratic"], OPTIMIZER, num_tasks=2, episode_length=2, unroll_length=2
    )
    result = l2ljax.meta_train(
        estimator, optax.sgd(0.1), META_PARAMS, jax.random.key(0), num_meta_updates=1
    )
    assert result.best_score == np.inf
