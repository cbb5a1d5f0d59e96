"""Meta-updates that are not finite: skipped, counted, gone back from, and at last given up."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.base import GradientEstimator
from l2ljax.training.faults import DivergenceError, Limits
from l2ljax.training.loop import meta_train
from l2ljax.training.meta_optimizers import restart
from l2ljax.training.step import init_state, meta_step

SGD = optax.sgd(0.1, momentum=0.5)
START = {"w": jnp.array([1.0, -2.0])}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Faulty(GradientEstimator):
    """The meta-gradient is phi, but for the meta-updates `bad` (from 1), where `what` is spoilt.

    In those the optimizees 1 and 2 of three diverge, at the inner steps 5 and 4.
    """

    bad: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    what: str = dataclasses.field(default="gradient", metadata={"static": True})
    diverge: bool = dataclasses.field(default=True, metadata={"static": True})

    def init(self, key, meta_params):
        return jnp.int32(0)

    def estimate(self, meta_params, state, key):
        bad = jnp.isin(state + 1, jnp.asarray(self.bad, jnp.int32))
        loss = 0.5 * optax.tree.norm(meta_params, squared=True)
        spoilt = {"loss": (jnp.nan, 1.0), "gradient": (1.0, jnp.nan), "outcome": (1.0, 1.5e38)}
        of_loss, of_gradient = spoilt[self.what]
        grads = jax.tree.map(lambda p: p * jnp.where(bad, of_gradient, 1.0), meta_params)
        metrics = {"diverged_at": jnp.where(bad, jnp.array([-1, 5, 4]), -1)} if self.diverge else {}
        return loss * jnp.where(bad, of_loss, 1.0), grads, state + 1, metrics


def train(estimator, num_meta_updates, meta_optimizer=SGD, **options):
    return meta_train(
        estimator, meta_optimizer, START, jax.random.key(0), num_meta_updates=num_meta_updates,
        **{"log_every": 1} | options,
    )  # fmt: skip


def by_hand(good_updates, scale=1.0, start=START["w"]):
    """SGD with momentum 1/2 and rate 0.1 on phi, which is its own meta-gradient."""
    phi, trace = np.float64(start), 0.0
    for _ in range(good_updates):
        trace = phi + 0.5 * trace
        phi = phi - scale * 0.1 * trace
    return phi


@pytest.mark.parametrize("what", ["gradient", "loss"])
def test_an_update_that_is_not_finite_is_skipped(what):
    """Neither the meta-parameters nor the meta-optimizer's state know of it; it is counted."""
    result = train(Faulty((2, 3, 6), what), 7)
    np.testing.assert_allclose(result.meta_params["w"], by_hand(4), rtol=1e-6)
    assert [r["skipped"] for r in result.history] == [0, 1, 2, 2, 2, 3, 3]
    assert [r["diverged"] for r in result.history] == [0, 2, 4, 4, 4, 6, 6]
    assert (result.num_skipped, result.num_diverged, result.num_restores) == (3, 6, 0)
    assert "diverged_at" not in result.history[0]
    json.dumps(result.history, allow_nan=False)


def test_an_outcome_that_is_not_finite_is_skipped_too():
    """The meta-gradient (1.5e38, -3e38) is finite, twice as much is not."""
    result = train(Faulty((1,), "outcome"), 1, optax.scale(-2.0))
    assert np.isfinite(result.history[0]["meta_loss"])
    assert result.num_skipped == 1
    assert np.array_equal(result.meta_params["w"], START["w"])


def test_a_row_of_them_goes_back_with_half_the_step():
    """To the last meta-parameters with a finite meta-gradient, and fresh momentum."""
    limits = {"max_consecutive_skips": 3}
    result = train(Faulty((4, 5, 6)), 8, **limits)
    # Updates 1 to 3 are made; the third's meta-gradient, at what two made, is the last finite one.
    np.testing.assert_allclose(
        result.meta_params["w"], by_hand(2, 0.5, start=by_hand(2)), rtol=1e-6
    )
    assert [r["restores"] for r in result.history] == [0, 0, 0, 0, 0, 1, 1, 1]
    assert result.num_restores == 1
    # A row that is one shorter does nothing of the kind.
    assert train(Faulty((4, 5, 7, 8)), 9, **limits).num_restores == 0


class Score:
    """Stands for a `Validation`: the meta-parameters' distance from (0.8, -1.6)."""

    def score(self, meta_params):
        return jnp.abs(meta_params["w"] - jnp.array([0.8, -1.6])).sum()


jax.tree_util.register_static(Score)


def test_with_validation_it_goes_back_to_the_best():
    """The best scored meta-parameters so far, here those after update 2 (1, .9, .75, .58 ...)."""
    path = [by_hand(n)[0] for n in range(6)]
    best = int(np.argmin(np.abs(np.array(path) - 0.8)))
    assert 0 < best < 5
    result = train(Faulty((6, 7)), 8, validation=Score(), validate_every=1, max_consecutive_skips=2)
    expected = by_hand(1, 0.5, start=by_hand(best))
    np.testing.assert_allclose(result.last_meta_params["w"], expected, rtol=1e-6)


def test_each_restore_halves_the_step():
    """Then the limit of restores is reached and training stops."""
    state = init_state(Faulty(tuple(range(1, 99))), SGD, START, jax.random.key(0))
    scales = []
    for _ in range(8):
        state, metrics = meta_step(
            Faulty(tuple(range(1, 99))), SGD, state, Limits(max_consecutive_skips=2, max_restores=3)
        )
        scales.append(float(metrics["faults"].step_scale))
    assert scales == [1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.125]


@pytest.mark.parametrize("diverge", [True, False])
def test_without_end_it_stops_and_says_where(tmp_path, diverge):
    """With the update, the optimizee and its inner step; a resumed run says the same."""
    limits = {"max_consecutive_skips": 3, "max_restores": 1}
    estimator = Faulty(tuple(range(5, 99)), diverge=diverge)
    words = (
        "stopped at meta-update 10: 3 meta-updates in a row were not finite, after 1 return.*"
        "in the first of them, meta-update 8, "
    ) + ("optimizee 2 of the batch .* at inner step 4;" if diverge else "no optimizee diverged")
    errors = []
    for _ in range(2):
        with pytest.raises(DivergenceError, match=words) as caught:
            train(estimator, 50, workdir=tmp_path, **limits)
        errors.append(str(caught.value))
        history = (tmp_path / "metrics.jsonl").read_text()
        assert json.loads(history.splitlines()[-1])["update"] == 11  # the one that was in flight
    assert errors[0] == errors[1]
    assert "\n" not in errors[0]
    # The checkpoint is whole: with more patience the run goes on from it.
    patient = train(estimator, 14, workdir=tmp_path, max_consecutive_skips=9, max_restores=1)
    assert patient.num_meta_updates == 14


def test_resumed_amid_a_streak_it_is_the_same_run(tmp_path):
    """Bit by bit, whether it is cut in a streak, at the restore or after it."""
    estimator, limits = Faulty((2, 4, 5, 6, 8)), {"max_consecutive_skips": 3}
    whole = train(estimator, 10, workdir=tmp_path / "whole", checkpoint_every=50, **limits)
    assert whole.num_restores == 1
    for cut in (5, 6, 7):
        workdir = tmp_path / str(cut)
        train(estimator, cut, workdir=workdir, **limits)
        resumed = train(estimator, 10, workdir=workdir, **limits)
        assert np.array_equal(resumed.meta_params["w"], whole.meta_params["w"])
        assert resumed.history == whole.history


META_OPTIMIZERS = {
    "clipped adam": optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)),
    "schedule": optax.adamw(optax.cosine_decay_schedule(0.1, 50)),
    "noise": optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.sgd(0.1)),
    "multi_steps": optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
    "injected": optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
    "plateau": optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()),
}


@pytest.mark.parametrize("name", META_OPTIMIZERS)
def test_any_meta_optimizer(name):
    """Skips and a restore leave finite numbers, and one compiled step makes all updates."""
    meta_optimizer, limits = META_OPTIMIZERS[name], Limits(2, 1)
    estimator = Faulty((2, 4, 5))
    state = init_state(estimator, meta_optimizer, START, jax.random.key(0))
    compiled = meta_step._cache_size()
    for update in range(1, 8):
        before = jax.tree.map(jnp.copy, (state.meta_params, state.opt_state))
        state, _ = meta_step(estimator, meta_optimizer, state, limits)
        kept = jax.tree.map(
            lambda a, b: bool((a == b).all()), before, (state.meta_params, state.opt_state)
        )
        assert jax.tree.all(kept) == (update in (2, 4))
    assert meta_step._cache_size() == compiled + 1
    assert int(state.faults.restores) == 1
    assert np.isfinite(state.meta_params["w"]).all()
    assert not np.array_equal(state.meta_params["w"], START["w"])


def test_schedules_go_on_after_a_restart():
    """While moments and their count are new."""
    tx = optax.adam(optax.cosine_decay_schedule(0.1, 50))
    state = tx.init(START)
    for _ in range(4):
        _, state = tx.update(START, state, START)
    moments, schedule = restart(tx, START, state)
    assert (int(moments.count), int(schedule.count)) == (0, 4)
    assert float(optax.tree.norm(moments.mu)) == 0


def test_limits_are_checked():
    """In a sentence."""
    with pytest.raises(ValueError, match="max_consecutive_skips must be an integer of at least 1"):
        train(Faulty(()), 2, max_consecutive_skips=0)
    with pytest.raises(ValueError, match="max_restores must be an integer of at least 0"):
        train(Faulty(()), 2, max_restores=-1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Spiked(GradientEstimator):
    """Meta-gradients of 1, the third of them 1e20: finite, its square is not."""

    def init(self, key, meta_params):
        return jnp.int32(0)

    def estimate(self, meta_params, state, key):
        size = jnp.where(state == 2, 1e20, 1.0)
        return size, jax.tree.map(lambda p: jnp.full_like(p, size), meta_params), state + 1, {}


@pytest.mark.parametrize("begin", [optax.identity(), optax.contrib.reduce_on_plateau()])
def test_an_update_that_would_overflow_the_meta_optimizers_state_is_skipped(begin):
    """Adam goes on as if the spike had not been; a state that begins at infinity is no harm."""
    adam = optax.chain(optax.adam(0.1), begin)
    found = train(Spiked(), 6, adam)
    assert found.num_skipped == 1
    np.testing.assert_allclose(found.meta_params["w"], START["w"] - 5 * 0.1, rtol=1e-4)
