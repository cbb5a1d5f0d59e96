"""`truncated_bptt` of tasks that stand apart: their windows alone, positions, lengths, weights."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from window_cases import (
    COORDINATEWISE,
    ESTIMATE,
    LEARNED_SGD,
    NOISY_BOWL,
    assert_close,
    lively,
    make,
)

from l2ljax import lstm, rnnprop
from l2ljax.base import CoordinateGroup, LearnedOptimizer, Task
from l2ljax.estimators import imitation, truncated_bptt
from l2ljax.estimators.inside import begun
from l2ljax.estimators.optimizees import renewed, sample_batch
from l2ljax.estimators.weights import stretched
from l2ljax.tasks import quadratic
from l2ljax.unrolling import OptimizeeState

APART = {
    "staggered": {"num_tasks": 3, "episode_length": 6, "stagger": True},
    "drawn": {"num_tasks": 3, "episode_length": (2, 8)},
    "both": {"num_tasks": 3, "episode_length": (2, 8), "stagger": True},
}


def windows(estimator, meta_params, number):
    """`(state before, key, results)` of successive windows."""
    state = estimator.init(jax.random.key(1), meta_params)
    for key in jax.random.split(jax.random.key(2), number):
        found = ESTIMATE(estimator, meta_params, state, key)
        yield state, key, found
        state = found[2]


def one_window(task, optimizer):
    """A window of one task, written out: `(loss, meta-gradient)`, compiled once."""

    def meta_loss(phi, optimizee, restart, weights, key):
        tx = optimizer.transform(phi)
        params, keys, total = optimizee.params, jax.random.split(key, len(weights) + 1), 0.0
        fresh = tx.init(params)
        opt_state = jax.tree.map(partial(jnp.where, restart), fresh, optimizee.opt_state)
        for t in range(len(weights)):
            batch = task.batch(task.data, optimizee.instance, keys[t])
            gradients = jax.lax.stop_gradient(jax.grad(task.loss)(params, batch))
            updates, opt_state = tx.update(gradients, opt_state, params)
            params = optax.apply_updates(params, updates)
            batch = task.batch(task.data, optimizee.instance, keys[t + 1])
            total += weights[t] * task.loss(params, batch)
        return total

    return jax.jit(jax.value_and_grad(meta_loss))


def test_each_task_is_a_python_loop():
    """Episodes begin where they are over, with the optimizer's state; weights by their shares."""
    optimizer = COORDINATEWISE["learned_start"]
    meta_params = optimizer.init(jax.random.key(0))
    estimator = make(optimizer, backward="scan", weights=np.arange(1.0, 9.0), **APART["both"])
    alone, begun = one_window(NOISY_BOWL, optimizer), 0
    for state, key, (loss, grads, after, metrics) in windows(estimator, meta_params, 5):
        sample_keys, run_keys, *_ = (jax.random.split(k, 3) for k in jax.random.split(key, 4))
        fresh = sample_batch(NOISY_BOWL, sample_keys)
        found = []
        for i in range(3):
            position, length = int(state.position[i]), int(after.length[i])
            ended = position >= int(state.length[i])
            begun, position = begun + ended, 0 if ended else position
            where = state.optimizees[:2] if position else fresh
            optimizee = OptimizeeState(
                *jax.tree.map(lambda x, i=i: x[i], where),
                jax.tree.map(lambda x, i=i: x[i, 0], state.optimizees.opt_state),
            )
            # w_t = t of 8 steps, at the same share of a shorter episode
            weights = jnp.array([np.ceil((position + t) * 8 / length) for t in (1, 2)])
            found.append(alone(meta_params, optimizee, position == 0, weights, run_keys[i]))
            assert int(metrics["position"][i]) == position
        mean_loss, mean_grads = jax.tree.map(lambda *x: sum(x) / 3, *found)
        np.testing.assert_allclose(loss, mean_loss, rtol=1e-5)
        assert_close(grads, mean_grads)
    assert begun >= 2


def _counting(phi):
    """A rule with a count that is no coordinate's, which tasks that stand apart do not share."""
    rate = optax.exponential_decay(1.0, 1, 0.5)
    return optax.with_extra_args_support(
        optax.chain(
            optax.trace(jax.nn.sigmoid(phi)), optax.scale_by_schedule(rate), optax.scale(-0.1)
        )
    )


COUNTING = LearnedOptimizer(
    init=lambda key: jnp.float32(0.3),
    transform=_counting,
    coordinate_groups=lambda params: (
        CoordinateGroup(tuple(range(len(jax.tree.leaves(params)))), _counting),
    ),
)


@pytest.mark.parametrize(
    ("name", "apart"),
    [
        ("counting", "both"),
        ("learned_start", "drawn"),
        pytest.param("rnnprop", "staggered", marks=pytest.mark.slow),
        pytest.param("partition", "both", marks=pytest.mark.slow),
    ],
)
def test_recorded_equals_scan(name, apart):
    """Window by window, whatever the chunks, and for state that all coordinates share."""
    others = {"counting": COUNTING, "rnnprop": rnnprop((3,))}
    optimizer = others.get(name) or COORDINATEWISE[name]
    meta_params = optimizer.init(jax.random.key(0)) if name == "counting" else lively(optimizer)
    weights = lambda t: t  # noqa: E731
    scan = make(optimizer, backward="scan", weights=weights, **APART[apart])
    recorded = make(optimizer, backward="recorded", chunk_size=5, weights=weights, **APART[apart])
    for (_, _, a), (_, _, b) in zip(
        windows(scan, meta_params, 5), windows(recorded, meta_params, 5), strict=True
    ):
        assert_close(b[:2], a[:2])
        assert_close(b[2].optimizees.params, a[2].optimizees.params)
        np.testing.assert_array_equal(b[3]["position"], a[3]["position"])
        np.testing.assert_allclose(b[3]["losses"], a[3]["losses"], rtol=1e-5)


def test_first_episodes_are_spread():
    """Whole windows; the first task has a whole episode, and each other ends in its own part."""
    estimator = make(LEARNED_SGD, num_tasks=6, episode_length=12, stagger=True)
    for seed in range(3):
        lengths = estimator.init(jax.random.key(seed), LEARNED_SGD.init(None)).length
        # shares in (1 - (i + 1) / 6, 1 - i / 6] of six windows, rounded up
        np.testing.assert_array_equal(lengths, [12, 10, 8, 6, 4, 2])


def test_every_window_sees_all_places():
    """After the first episodes all have the whole length, and positions stay apart."""
    estimator = make(LEARNED_SGD, num_tasks=3, episode_length=6, stagger=True)
    meta_params = LEARNED_SGD.init(None)
    found = [list(w[2][3]["position"]) for w in windows(estimator, meta_params, 6)]
    assert found == [[0, 0, 0], [2, 2, 0], [4, 0, 2], [0, 2, 4], [2, 4, 0], [4, 0, 2]]


def test_numbers_of_windows_are_log_uniform():
    """Each n of 1 ... 4 windows comes with probability log((n + 1) / n) / log 5."""
    estimator = make(LEARNED_SGD, num_tasks=4000, episode_length=(2, 8))
    lengths = estimator.init(jax.random.key(0), LEARNED_SGD.init(None)).length
    for n in range(1, 5):
        p = np.log((n + 1) / n) / np.log(5)
        error = np.sqrt(p * (1 - p) / 4000)
        assert abs(float((lengths == 2 * n).mean()) - p) < 4 * error


@pytest.mark.parametrize("backward", ["scan", "recorded"])
def test_a_task_that_diverges_begins_anew(backward):
    """It is left out of the means, and its next window is the first of another episode."""
    sick = Task(
        sample=lambda data, key: jax.random.uniform(key) < 0.5,
        init=lambda instance, key: jnp.ones(2),
        loss=lambda p, sick: jnp.sum(p**2) * jnp.where(sick & (p[0] < 1), jnp.nan, 1.0),
    )
    estimator = make(COUNTING, sick, num_tasks=8, episode_length=6, stagger=True, backward=backward)
    meta_params = COUNTING.init(None)
    after = None
    for state, _, (loss, grads, _, metrics) in windows(estimator, meta_params, 4):
        bad = np.asarray(metrics["diverged_at"]) >= 0
        assert 0 < bad.sum() < 8
        assert np.isfinite(loss)
        assert np.isfinite(grads)
        if after is not None:
            assert (np.asarray(metrics["position"])[after] == 0).all()
            assert (np.asarray(state.position) >= np.asarray(state.length))[after].all()
        after = bad


def test_weights_of_long_episodes_do_not_overflow():
    """Positions times lengths are beyond int32: ceil(p T / L), by Python's integers."""
    total = 200_000
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, total + 1, 200)
    positions = np.array([rng.integers(1, n + 1) for n in lengths])
    found = stretched(tuple(range(1, total + 1)), jnp.asarray(positions), jnp.asarray(lengths))
    expected = [-(-int(p) * total // int(n)) for p, n in zip(positions, lengths, strict=True)]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"episode_length": (8, 4)}, r"bounds \(low, high\)"),
        ({"episode_length": (2, 4, 6)}, r"bounds \(low, high\)"),
        ({"episode_length": 3}, "does not divide episode_length=3; .* stagger=True"),
        ({"episode_length": (2, 4), "weights": [1, 1]}, r"shape \(4,\), got shape \(2,\)"),
    ],
)
def test_bad_lengths_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        make(LEARNED_SGD, **options)


def test_stagger_is_a_boolean():
    with pytest.raises(TypeError, match="stagger"):
        truncated_bptt(
            NOISY_BOWL, LEARNED_SGD, num_tasks=1, episode_length=2, unroll_length=1, stagger="yes"
        )


@pytest.mark.parametrize("make", ["staggered", "imitation"])
def test_in_x64_mode_positions_stay_int32(make):
    """A state that changes its dtype is refused by `meta_train`."""
    with jax.enable_x64(True):
        task, optimizer = quadratic(2), lstm((2,))
        sizes = {"num_tasks": 2, "episode_length": 4, "unroll_length": 2}
        estimator = (
            imitation(task, optimizer, optax.sgd(0.1), **sizes)
            if make == "imitation"
            else truncated_bptt(task, optimizer, stagger=True, **sizes)
        )
        meta_params = optimizer.init(jax.random.key(0))
        state = estimator.init(jax.random.key(1), meta_params)
        _, _, after, _ = estimator.estimate(meta_params, state, jax.random.key(2))
        chex.assert_trees_all_equal_shapes_and_dtypes(state, after)


def test_the_successor_of_a_lost_optimizee_is_no_function_of_its_start():
    """Its instance and that one's theta_0, which a task draws with a key that it splits."""
    task = Task(
        init=lambda _, key: jax.random.normal(jax.random.split(key)[0]),
        sample=lambda _, key: jax.random.normal(key),
        loss=lambda p, _: p**2,
    )
    keys = jax.random.split(jax.random.key(0), 2000)
    instances, params = sample_batch(task, keys)
    lost = renewed(task, keys, jnp.zeros(2000, bool), OptimizeeState(instances, params, ()))
    assert abs(np.corrcoef(params, lost.instance)[0, 1]) < 0.09
    begun_later, _ = jax.vmap(lambda key: begun(task, key, jnp.int32(1)))(keys)
    assert abs(np.corrcoef(params, begun_later)[0, 1]) < 0.09
