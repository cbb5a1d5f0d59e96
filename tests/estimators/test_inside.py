"""`truncated_bptt` of episodes that end inside windows: restarts, and the chain that they cut."""

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

from l2ljax import parallel, small_fc
from l2ljax.base import Task
from l2ljax.estimators.inside import begun
from l2ljax.estimators.optimizees import sample_batch
from l2ljax.estimators.weights import stretched
from l2ljax.unrolling import OptimizeeState

APART = {
    "staggered": {"episode_length": 7, "stagger": True},
    "drawn": {"episode_length": (3, 8)},
    "short": {"episode_length": (1, 3), "stagger": True},  # several in one window
}
WINDOW = {"num_tasks": 3, "unroll_length": 4}


def windows(estimator, meta_params, number):
    """`(state before, key, results)` of successive windows."""
    state = estimator.init(jax.random.key(1), meta_params)
    for key in jax.random.split(jax.random.key(2), number):
        found = ESTIMATE(estimator, meta_params, state, key)
        yield state, key, found
        state = found[2]


class Loop:
    """One window of one task in plain Python, which asks the estimator for nothing but lengths."""

    def __init__(self, estimator, state, key, i):
        self.estimator, self.task = estimator, estimator.task
        keys = [jax.random.split(k, estimator.num_tasks) for k in jax.random.split(key, 4)]
        self.sample_keys, self.run_key, self.length_keys = keys[0], keys[1][i], keys[3]
        self.i, self.restarts = i, 0
        position, length = int(state.position[i]), int(state.length[i])
        optimizee = jax.tree.map(lambda x: x[i], state.optimizees[:2])
        self.opt_state = jax.tree.map(lambda x: x[i, 0], state.optimizees.opt_state)
        if position >= length:
            position, length = 0, int(estimator._lengths(self.length_keys)[i])
        if position == 0:
            optimizee = jax.tree.map(lambda x: x[i], sample_batch(self.task, self.sample_keys))
        self.position, self.length, self.optimizee = position, length, optimizee

    def weight(self, position, length):
        return stretched(self.estimator.weights, jnp.int32(position), jnp.int32(length))

    def loss(self, phi):
        """The window's share of the meta-loss, differentiable in phi, and where it ends."""
        tx, task, total = self.estimator.optimizer.transform(phi), self.task, 0.0
        steps = self.estimator.unroll_length
        keys = jax.random.split(self.run_key, steps + 1)
        (instance, params), position, length = self.optimizee, self.position, self.length
        opt_state = tx.init(params) if position == 0 else self.opt_state
        self.restarts = 0
        for t in range(steps):
            if position == length:
                instance, params = begun(task, self.sample_keys[self.i], t)
                new = jax.vmap(lambda k, t=t: jax.random.fold_in(k, t))(self.length_keys)
                position, length = 0, int(self.estimator._lengths(new)[self.i])
                opt_state, self.restarts = tx.init(params), self.restarts + 1
            batch = task.batch(task.data, instance, keys[t])
            gradients = jax.lax.stop_gradient(jax.grad(task.loss)(params, batch))
            updates, opt_state = tx.update(gradients, opt_state, params)
            params, position = optax.apply_updates(params, updates), position + 1
            batch = task.batch(task.data, instance, keys[t + 1])
            total += self.weight(position, length) * task.loss(params, batch)
        return total, (position, length, params)


@pytest.mark.parametrize(
    "apart",
    [
        pytest.param("staggered", marks=pytest.mark.long),
        pytest.param("drawn", marks=pytest.mark.long),
        pytest.param("short", marks=pytest.mark.slow),
    ],
)
def test_each_task_is_a_python_loop(apart):
    """Losses of the ended episodes, fresh instances, parameters and states, weights by shares."""
    optimizer = COORDINATEWISE["learned_start"]
    meta_params = optimizer.init(jax.random.key(0))
    options = WINDOW | APART[apart]
    longest = np.max(options["episode_length"])
    options["weights"] = np.arange(1.0, longest + 1)
    estimator, restarts = make(optimizer, backward="scan", **options), 0
    for state, key, (loss, grads, after, metrics) in windows(estimator, meta_params, 3):
        loops = [Loop(estimator, state, key, i) for i in range(3)]
        found = [jax.value_and_grad(loop.loss, has_aux=True)(meta_params) for loop in loops]
        ends = [end for (_, end), _ in found]
        found = [(value, slope) for (value, _), slope in found]
        mean_loss, mean_grads = jax.tree.map(lambda *x: sum(x) / 3, *found)
        np.testing.assert_allclose(loss, mean_loss, rtol=1e-5)
        assert_close(grads, mean_grads)
        for i, loop in enumerate(loops):
            position, length, params = ends[i]
            assert (int(after.position[i]), int(after.length[i])) == (position, length)
            assert_close(jax.tree.map(lambda x, i=i: x[i], after.optimizees.params), params)
            assert int(metrics["position"][i]) == loop.position
            restarts += loop.restarts
    assert restarts >= 2


@pytest.mark.parametrize(
    ("name", "apart"),
    [
        ("learned_start", "short"),
        pytest.param("lstm", "drawn", marks=pytest.mark.long),
        pytest.param("partition", "staggered", marks=pytest.mark.long),
        pytest.param("rnnprop", "short", marks=pytest.mark.long),
        pytest.param("small_fc", "drawn", marks=pytest.mark.long),
    ],
)
def test_recorded_equals_scan(name, apart):
    """Whatever the chunks and segments; for whole tensors too, whose states hold parameters."""
    others = {"small_fc": small_fc((3,), step_scale=0.1)}
    optimizer = others.get(name) or COORDINATEWISE[name]
    meta_params = optimizer.init(None) if name == "learned_start" else lively(optimizer)
    options = WINDOW | APART[apart] | {"weights": lambda t: t}
    scan = make(optimizer, backward="scan", **options)
    recorded = make(optimizer, backward="recorded", chunk_size=5, **options)
    for (_, _, a), (_, _, b) in zip(
        windows(scan, meta_params, 4), windows(recorded, meta_params, 4), strict=True
    ):
        assert_close(b[:2], a[:2], rtol=1e-4 if name == "small_fc" else 2e-5)
        assert_close(b[2].optimizees.params, a[2].optimizees.params)
        np.testing.assert_array_equal(b[2].position, a[2].position)
        np.testing.assert_allclose(b[3]["losses"], a[3]["losses"], rtol=1e-5)


@pytest.mark.slow
def test_second_derivatives_are_central_differences():
    """Through the optimizee's gradients too, nothing is constant: phi moves the window's loss."""
    with jax.enable_x64(True):
        meta_params = jax.tree.map(jnp.float64, LEARNED_SGD.init(None))
        task = Task(
            sample=NOISY_BOWL.sample,
            init=lambda target, key: jax.tree.map(jnp.float64, NOISY_BOWL.init(target, key)),
            batch=NOISY_BOWL.batch,
            loss=NOISY_BOWL.loss,
        )
        estimator = make(
            LEARNED_SGD, task, backward="scan", second_derivatives=True, **WINDOW, **APART["short"]
        )
        state, key = estimator.init(jax.random.key(1), meta_params), jax.random.key(2)

        def loss(log_rate):
            changed = meta_params | {"log_rate": log_rate}
            return jnp.float64(ESTIMATE(estimator, changed, state, key)[0])

        # The estimate's losses are float32: a wide step, and its error of third order is small.
        step = 1e-2
        here = meta_params["log_rate"]
        slopes = [(loss(here + h) - loss(here - h)) / (2 * h) for h in (step, 2 * step)]
        expected = (4 * slopes[0] - slopes[1]) / 3
        grads = ESTIMATE(estimator, meta_params, state, key)[1]
        np.testing.assert_allclose(grads["log_rate"], expected, rtol=1e-3)


def test_updates_do_not_see_the_next_episode():
    """Its losses are as large as one likes: what came before them has the same derivative."""
    numbered = Task(
        sample=lambda data, key: jax.random.bits(key).astype(jnp.float32) % 97,
        init=lambda number, key: jnp.ones(2),
        loss=lambda p, number: jnp.sum(p**2),
    )
    optimizer = LEARNED_SGD
    meta_params = optimizer.init(None)
    options = WINDOW | {"num_tasks": 1, "episode_length": 3, "stagger": True}
    # weights 0, 0, 1: of a window of 4 steps only the last loss of the ended episode counts
    estimator = make(optimizer, numbered, backward="scan", weights=[0, 0, 1], **options)
    (_, _, (loss, grads, _, _)), *_ = windows(estimator, meta_params, 1)

    def last_loss(phi):
        tx = optimizer.transform(phi)
        params, state = jnp.ones(2), tx.init(jnp.ones(2))
        for _ in range(3):
            gradients = jax.lax.stop_gradient(2 * params)
            updates, state = tx.update(gradients, state, params)
            params = params + updates
        return jnp.sum(params**2)

    expected = jax.value_and_grad(last_loss)(meta_params)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
    assert_close(grads, expected[1])


@pytest.mark.parametrize("backward", ["scan", "recorded"])
def test_the_step_at_which_a_task_diverges_is_its_episodes(backward):
    """f(theta_2) of every episode is infinite; the next window begins anew."""
    optimizer = COORDINATEWISE["learned_start"]
    meta_params = optimizer.init(None)
    task = Task(
        init=lambda instance, key: jnp.zeros(2),
        loss=lambda p, batch: jnp.where(jnp.abs(p[0]) > 1.5 * 0.3 * 0.64, jnp.inf, jnp.sum(p)),
    )
    estimator = make(optimizer, task, backward=backward, **WINDOW, episode_length=(5, 7))
    found = [w[2] for w in windows(estimator, meta_params, 2)]
    for _, _, after, metrics in found:
        diverged = np.asarray(metrics["diverged_at"])
        assert (diverged >= 1).all()
        assert len(set(diverged.tolist())) == 1
        assert (np.asarray(after.position) >= np.asarray(after.length)).all()


@pytest.mark.long
def test_a_mesh_changes_nothing():
    """On a mesh of the one device that there is."""
    optimizer = COORDINATEWISE["lstm"]
    meta_params = lively(optimizer)
    options = WINDOW | APART["short"]
    plain, spread = (
        make(optimizer, mesh=mesh, **options) for mesh in (None, parallel.task_mesh(3, 1))
    )
    for (_, _, a), (_, _, b) in zip(
        windows(plain, meta_params, 3), windows(spread, meta_params, 3), strict=True
    ):
        assert_close(a[:2], b[:2])


def test_lengths_are_log_uniform():
    """Each n of 3 ... 7 comes with probability log((n + 1) / n) / log(8 / 3)."""
    estimator = make(LEARNED_SGD, num_tasks=4000, unroll_length=2, episode_length=(3, 7))
    lengths = np.asarray(estimator.init(jax.random.key(0), LEARNED_SGD.init(None)).length)
    for n in range(3, 8):
        p = np.log((n + 1) / n) / np.log(8 / 3)
        assert abs((lengths == n).mean() - p) < 4 * np.sqrt(p * (1 - p) / 4000)


def test_opt_state_and_optimizees_keep_their_types():
    """The state after a window is as the one before, and is compiled once."""
    estimator = make(LEARNED_SGD, **WINDOW, **APART["drawn"])
    meta_params = LEARNED_SGD.init(None)
    for state, _, found in windows(estimator, meta_params, 2):
        assert isinstance(state.optimizees, OptimizeeState)
        before, after = (jax.tree.map(jax.typeof, s) for s in (state, found[2]))
        assert before == after
