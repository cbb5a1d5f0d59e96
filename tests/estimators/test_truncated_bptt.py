"""`truncated_bptt`: the paper's meta-gradient, against a Python loop and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from window_cases import (
    COORDINATEWISE,
    DECAYING,
    ESTIMATE,
    LEARNED_SGD,
    NOISY_BOWL,
    assert_close,
    lively,
    make,
    python_loop,
)

from l2ljax.base import Task
from l2ljax.estimators import truncated_bptt
from l2ljax.estimators.optimizees import sample_batch
from l2ljax.estimators.recorded import recorded_meta_gradient
from l2ljax.estimators.windows import Options, Window
from l2ljax.optimizers import lstm
from l2ljax.optimizers.preprocess import identity
from l2ljax.unrolling import OptimizeeState, unroll


@pytest.mark.parametrize("backward", ["scan", "recorded"])
@pytest.mark.parametrize("name", [*COORDINATEWISE, "learned_sgd", "decaying"])
def test_two_windows_equal_a_python_loop(name, backward):
    """Loss, meta-gradient and carried state of both windows of an episode, and w_t's positions."""
    optimizer = (COORDINATEWISE | {"learned_sgd": LEARNED_SGD, "decaying": DECAYING})[name]
    if backward == "recorded" and optimizer.coordinate_groups is None:
        pytest.skip("declares no coordinate_groups")
    weights = np.arange(1.0, 5.0)
    estimator = make(optimizer, backward=backward, weights=weights, chunk_size=7)
    meta_params = lively(optimizer) if name in COORDINATEWISE else optimizer.init(jax.random.key(0))
    state = estimator.init(jax.random.key(1), meta_params)

    opt_states = [None] * 2
    for window, key in enumerate(jax.random.split(jax.random.key(2), 2)):
        sample_key, run_key, _ = jax.random.split(key, 3)
        if window == 0:  # a fresh draw, by the estimator's own rule
            optimizees = sample_batch(NOISY_BOWL, jax.random.split(sample_key, 2))
        loss, grads, state, metrics = ESTIMATE(estimator, meta_params, state, key)
        (expected_loss, finals), expected_grads = python_loop(
            estimator,
            meta_params,
            optimizees,
            opt_states,
            weights[2 * window : 2 * window + 2],
            jax.random.split(run_key, 2),
        )
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
        assert_close(grads, expected_grads)
        assert int(metrics["position"]) == 2 * window
        assert metrics["losses"].shape == (3,)
        params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[p for p, _ in finals])
        assert_close(state.optimizees.params, params)
        optimizees, opt_states = (optimizees[0], params), [s for _, s in finals]
    assert int(state.position) == 0


@pytest.mark.parametrize("name", COORDINATEWISE)
@pytest.mark.parametrize("chunk_size", [5, 10_000])
def test_recorded_equals_scan(name, chunk_size):
    """The recorded backward pass is exact, whatever the chunks."""
    optimizer = COORDINATEWISE[name]
    meta_params = lively(optimizer)
    results = []
    for options in ({"backward": "scan"}, {"backward": "recorded", "chunk_size": chunk_size}):
        estimator = make(optimizer, unroll_length=4, **options)
        state = estimator.init(jax.random.key(1), meta_params)
        results.append(ESTIMATE(estimator, meta_params, state, jax.random.key(2)))
    assert_close(results[0][:2], results[1][:2])
    np.testing.assert_allclose(results[0][3]["losses"], results[1][3]["losses"], rtol=1e-5)


@pytest.mark.parametrize("remat", ["none", "nested"])
@pytest.mark.parametrize("backward", ["scan", "recorded"])
def test_what_is_kept_changes_nothing(backward, remat):
    """Every choice of `remat` gives the meta-gradient of the default."""
    optimizer = COORDINATEWISE["lstm"]
    meta_params = lively(optimizer)
    results = []
    for options in ({}, {"remat": remat}):
        estimator = make(
            optimizer, episode_length=7, unroll_length=7, backward=backward, chunk_size=3, **options
        )
        state = estimator.init(jax.random.key(1), meta_params)
        results.append(ESTIMATE(estimator, meta_params, state, jax.random.key(2)))
    assert_close(results[0][:2], results[1][:2])


def test_a_record_that_would_overflow_is_refused():
    """float16 ends at 65,504: a gradient of 1e5 would count as diverged."""
    with pytest.raises(ValueError, match=r"float16 ends at 65504.*bfloat16"):
        truncated_bptt(
            NOISY_BOWL,
            lstm((2,)),
            num_tasks=1,
            episode_length=2,
            unroll_length=2,
            record_dtype="float16",
        )


def test_a_bfloat16_record_rounds_the_gradients():
    """The losses are the same bits; the meta-gradient is within bfloat16's 8 bits."""
    optimizer = COORDINATEWISE["identity"]
    meta_params = lively(optimizer)
    results = []
    for dtype in (None, "bfloat16"):
        estimator = make(optimizer, unroll_length=4, record_dtype=dtype)
        state = estimator.init(jax.random.key(1), meta_params)
        results.append(ESTIMATE(estimator, meta_params, state, jax.random.key(2)))
    np.testing.assert_array_equal(results[0][3]["losses"], results[1][3]["losses"])
    assert_close(results[1][1], results[0][1], rtol=3 * 2**-8)
    assert any(
        np.any(a != b)
        for a, b in zip(jax.tree.leaves(results[0][1]), jax.tree.leaves(results[1][1]), strict=True)
    )


def test_recorded_keeps_each_leaf_dtype():
    """A tree with bfloat16 and float32 leaves trains as it does step by step."""
    task = Task(
        init=lambda _, key: {"a": jnp.ones(4, jnp.bfloat16), "b": jnp.ones(3)},
        loss=lambda p, _: jnp.sum(p["a"].astype(jnp.float32) ** 2) + jnp.sum(p["b"] ** 2),
    )
    optimizer = COORDINATEWISE["lstm"]
    meta_params = lively(optimizer)
    ends = []
    for backward in ("scan", "recorded"):
        estimator = make(optimizer, task, backward=backward)
        state = estimator.init(jax.random.key(1), meta_params)
        _, _, state, _ = ESTIMATE(estimator, meta_params, state, jax.random.key(2))
        ends.append(state.optimizees.params)
        assert ends[-1]["a"].dtype == jnp.bfloat16
    # one bfloat16 rounding apart at most: 8 bits of mantissa
    np.testing.assert_allclose(*(np.float32(e["a"]) for e in ends), rtol=2**-7)
    np.testing.assert_allclose(ends[0]["b"], ends[1]["b"], rtol=1e-5)


def test_sampled_coordinates_are_unbiased():
    """The mean over draws of the sample lies within 4.5 standard errors of the exact gradient."""
    task = Task(
        init=lambda _, key: jax.random.normal(key, (40,)),
        loss=lambda p, _: jnp.sum(jnp.arange(1.0, 41.0) * p**2) / 40,
    )
    optimizer = COORDINATEWISE["identity"]
    meta_params = lively(optimizer)
    exact = make(optimizer, task, num_tasks=1, unroll_length=4)
    state = exact.init(jax.random.key(1), meta_params)
    # equal sample and run keys, only the choice of coordinates varies
    sampled = make(optimizer, task, num_tasks=1, unroll_length=4, coordinate_share=0.13)
    key = jax.random.key(2)
    _, expected, _, _ = ESTIMATE(exact, meta_params, state, key)
    _, run_key, _ = jax.random.split(key, 3)
    instances, params = sample_batch(task, jax.random.split(jax.random.split(key, 3)[0], 1))
    optimizees = state.optimizees._replace(instance=instances, params=params)

    def draw(share_key):
        return recorded_meta_gradient(
            task,
            optimizer,
            meta_params,
            Window(
                optimizees,
                jax.random.split(run_key, 1),
                share_key[None],
                jnp.ones(4),
                jnp.bool_(True),
            ),
            Options(coordinate_share=sampled.coordinate_share, remat="step"),
        )[0]

    draws = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(5), 2000))
    for values, truth in zip(jax.tree.leaves(draws), jax.tree.leaves(expected), strict=True):
        standard_error = values.std(axis=0) / np.sqrt(2000)
        assert np.all(np.abs(values.mean(axis=0) - truth) <= 4.5 * standard_error + 1e-6)
        assert float(values.std(axis=0).max()) > 0  # it does sample


def test_second_derivatives_match_finite_differences():
    """With second derivatives the estimate is the true gradient of the meta-loss, in float64."""
    with jax.enable_x64(True):
        optimizer = lstm((3,), preprocess=identity(), dtype=jnp.float64)
        meta_params = jax.tree.map(lambda x: x.astype(jnp.float64), lively(optimizer))
        estimator = make(optimizer, unroll_length=4, second_derivatives=True)
        state = estimator.init(jax.random.key(1), meta_params)
        estimate = jax.jit(lambda phi: estimator.estimate(phi, state, jax.random.key(2))[:2])
        # The meta-loss is reported in float32, too coarse for differences: recompute it.
        keys = jax.random.split(jax.random.key(2), 3)

        @jax.jit
        def meta_loss(phi):
            tx = optimizer.transform(phi)

            def episode(instance, params, key):
                start = OptimizeeState(instance, params, tx.init(params))
                return unroll(NOISY_BOWL, tx, start, key, 4)[1][1:].sum()

            return jax.vmap(episode)(
                *sample_batch(NOISY_BOWL, jax.random.split(keys[0], 2)),
                jax.random.split(keys[1], 2),
            ).mean()

        _, grads = estimate(meta_params)
        stopped = jax.grad(meta_loss)(meta_params)
        direction = lively(optimizer, key=7)
        direction = jax.tree.map(lambda x: x.astype(jnp.float64), direction)
        epsilon = 1e-6

        def along(sign):
            return jax.tree.map(lambda x, d: x + sign * epsilon * d, meta_params, direction)

        difference = (meta_loss(along(1)) - meta_loss(along(-1))) / (2 * epsilon)
        # the episode is summed in float64 but the estimate's losses are cast to float32
        np.testing.assert_allclose(optax.tree.vdot(grads, direction), difference, rtol=1e-5)
        assert abs(optax.tree.vdot(stopped, direction) / difference - 1) > 1e-3


def test_final_only_weights_leave_one_term():
    """w = (0, ..., 0, 1): the meta-loss is the last of the window's losses."""
    optimizer = COORDINATEWISE["lstm"]
    estimator = make(optimizer, unroll_length=4, weights=lambda t: t == t[-1])
    assert estimator.weights == (0, 0, 0, 1)
    meta_params = lively(optimizer)
    state = estimator.init(jax.random.key(1), meta_params)
    loss, _, _, metrics = ESTIMATE(estimator, meta_params, state, jax.random.key(2))
    np.testing.assert_allclose(loss, metrics["losses"][-1], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unroll_length": 3}, "does not divide episode_length=4"),
        ({"weights": [1, 1, 1, -1]}, "weights must be finite, >= 0"),
        ({"weights": [0] * 4}, "not all 0"),
        ({"weights": [1, np.nan, 1, 1]}, "finite"),
        ({"weights": [1, 1]}, r"shape \(4,\), got shape \(2,\)"),
        ({"num_tasks": 0}, "num_tasks must be an integer of at least 1"),
        ({"coordinate_share": 0.0}, r"coordinate_share must lie in \(0, 1\]"),
        ({"coordinate_share": 0.5, "backward": "scan"}, 'needs backward="recorded"'),
        ({"backward": "recorded", "second_derivatives": True}, "second_derivatives=True makes"),
        ({"backward": "forwards"}, "backward must be"),
        ({"remat": "sometimes"}, "remat must be one of"),
        ({"record_dtype": "int32"}, "record_dtype must be a real floating dtype"),
        ({"chunk_size": 0}, "chunk_size must be an integer of at least 1"),
    ],
)
def test_bad_options_are_refused(options, words):
    """Each with a sentence that names the culprit."""
    with pytest.raises(ValueError, match=words):
        make(COORDINATEWISE["lstm"], **options)


def test_recorded_refuses_optimizers_without_groups():
    """Sampling needs coordinates that are declared independent."""
    with pytest.raises(ValueError, match="declares no coordinate_groups"):
        make(LEARNED_SGD, coordinate_share=0.5)
