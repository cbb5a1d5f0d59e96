"""Every Optax transformation is a meta-optimizer, and metrics may be nested."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_meta_train import SMALL, VALIDATION

import l2ljax
from l2ljax.base import GradientEstimator
from l2ljax.training.meta_optimizers import restart


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bowl(GradientEstimator):
    """The meta-loss |phi - 3|^2 / 2, with its gradient; it logs what it is given."""

    metrics: object = dataclasses.field(default=(), metadata={"static": True})

    def init(self, key, meta_params):
        return jnp.int32(0)

    def estimate(self, meta_params, state, key):
        # Stopped, as an estimator's gradient is its own affair.
        gap = jax.lax.stop_gradient(meta_params - 3.0)
        metrics = dict(self.metrics) if isinstance(self.metrics, tuple) else self.metrics
        return 0.5 * jnp.sum(gap**2), gap, state + 1, metrics


def train(meta_optimizer, num_meta_updates=20, estimator=None, **options):
    return l2ljax.meta_train(
        Bowl() if estimator is None else estimator, meta_optimizer, jnp.zeros(2),
        jax.random.key(0), num_meta_updates=num_meta_updates, log_every=1, **options,
    )  # fmt: skip


LINE_SEARCHES = {
    "lbfgs": optax.lbfgs(),
    "backtracking": optax.chain(
        optax.sgd(8.0), optax.scale_by_backtracking_linesearch(max_backtracking_steps=15)
    ),
    "storing": optax.chain(
        optax.sgd(8.0),
        optax.scale_by_backtracking_linesearch(max_backtracking_steps=15, store_grad=True),
    ),
    "polyak": optax.polyak_sgd(),
    "sam": optax.contrib.sam(optax.sgd(0.3), optax.sgd(0.01), opaque_mode=True),
}


@pytest.mark.parametrize("name", LINE_SEARCHES)
def test_line_searches_and_their_kin(name):
    """They find the minimum at 3 of a bowl whose value alone would give gradient 0."""
    result = train(LINE_SEARCHES[name], 80)
    np.testing.assert_allclose(result.meta_params, 3.0, atol=0.05)


def test_what_a_rarer_one_asks_for():
    """Sophia's `obj_fn`; its steps are of the size of its rate."""
    result = train(optax.contrib.sophia(0.01), 50)
    assert (result.meta_params > 0.1).all()
    assert (result.meta_params < 0.6).all()


def test_an_extra_argument_that_nobody_has_is_named():
    """In a sentence."""

    def update(grads, state, params=None, *, phase):
        raise AssertionError(phase)

    tx = optax.GradientTransformationExtraArgs(lambda params: (), update)
    with pytest.raises(TypeError, match="meta_optimizer wants the extra argument 'phase', which"):
        train(tx)


def test_only_what_an_update_takes_is_given():
    """One with `value` alone, and one of the plain kind."""

    def update(grads, state, params=None, *, value):
        return jax.tree.map(lambda g: -0.1 * g * jnp.sign(value), grads), state

    extra = train(optax.GradientTransformationExtraArgs(lambda params: (), update), 3)
    np.testing.assert_allclose(extra.meta_params, train(optax.sgd(0.1), 3).meta_params, rtol=1e-6)


def scheduled():
    """Optax's ways to make a rate depend on the step, and what says how far each is."""
    rate = optax.linear_schedule(0.1, 0.0, 50)
    inject = optax.inject_hyperparams
    return {
        "schedule": optax.adam(rate),
        "injected": inject(optax.adam)(learning_rate=rate),
        "nested": optax.chain(inject(optax.sgd)(learning_rate=rate), optax.trace(0.0)),
        "masked": optax.masked(inject(optax.sgd)(learning_rate=rate), True),
        "multi_steps": optax.MultiSteps(optax.sgd(rate), 1).gradient_transformation(),
        "partition": optax.partition({"a": inject(optax.sgd)(learning_rate=rate)}, "a"),
        "decay": optax.chain(
            optax.scale(0.0), optax.add_decayed_weights(rate), optax.scale(-1.0)
        ),  # of parameters of 1, with nothing of the gradient
    }


@pytest.mark.parametrize("name", scheduled())
def test_schedules_go_on_after_a_restart(name):
    """The step after 25 steps and a restart is of the rate of step 25, as without it."""
    tx, params, grads = scheduled()[name], jnp.ones(1), jnp.ones(1)
    state = tx.init(params)
    for _ in range(25):
        _, state = tx.update(grads, state, params)
    updates, _ = tx.update(grads, restart(tx, params, state), params)
    np.testing.assert_allclose(updates, -0.05, rtol=1e-4)  # of Adam too, whose first step is 1


def test_a_rate_set_by_hand_outlasts_a_restart():
    """While the moments inside are new."""
    tx = optax.inject_hyperparams(optax.adam)(learning_rate=0.1)
    state = tx.init(jnp.zeros(1))
    _, state = tx.update(jnp.ones(1), state)
    state.hyperparams["learning_rate"] = jnp.float32(0.025)
    fresh = restart(tx, jnp.zeros(1), state)
    assert float(fresh.hyperparams["learning_rate"]) == np.float32(0.025)
    assert float(optax.tree.get(fresh.inner_state, "mu")[0]) == 0


def test_metrics_may_be_nested(tmp_path):
    """Records hold them as JSON does, in the file as in memory."""
    nested = {
        "norms": {"conv": jnp.ones(2), "fc": {"all": jnp.inf}},
        "pair": (jnp.bfloat16(0.5), jnp.array([[1, 2], [3, 4]])),
        "flag": jnp.array(True),
    }

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Nested(Bowl):
        def estimate(self, meta_params, state, key):
            return *super().estimate(meta_params, state, key)[:3], nested

    result = train(optax.sgd(0.1), 1, Nested(), workdir=tmp_path)
    record = result.history[0]
    assert record["norms"] == {"conv": [1.0, 1.0], "fc": {"all": None}}
    assert record["pair"] == [0.5, [[1, 2], [3, 4]]]
    assert record["flag"] is True
    assert train(optax.sgd(0.1), 1, Nested()).history == result.history


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ((("waves", 1j),), "metric waves has dtype complex64, records hold real"),
        ((("update", 3),), "cannot be named update"),
        ((("skipped", 3), ("meta_loss", 1.0)), "cannot be named meta_loss, skipped"),
        (3.0, "metrics must be a dict of arrays, got 3.0"),
    ],
)
def test_metrics_that_no_record_can_hold(metrics, words):
    """The metric is named."""
    with pytest.raises((TypeError, ValueError), match=words):
        train(optax.sgd(0.1), 1, Bowl(metrics))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": np.ones(6)}, r"weights must be a tuple of 6 numbers.*give tuple\(array"),
        ({"weights": (0.0,) * 6}, "got zeros alone"),
        ({"weights": (1.0,) * 5}, "got 5 entries"),
        ({"weights": (1.0, -1.0) * 3}, "got -1.0 among them"),
        ({"weights": (1.0, float("nan")) * 3}, "got nan among them"),
        ({"weights": ("1",) * 6}, "got '1' among them"),
        ({"optimizer": optax.sgd(0.1)}, "optimizer must be an l2ljax.LearnedOptimizer"),
        ({"key": 0}, "key must be a random key"),
        ({"key": jax.random.split(jax.random.key(0))}, "key must be a random key"),
        ({"task": lambda key: key}, "task must be an l2ljax.Task"),
        ({"num_steps": 0}, "num_steps must be an integer"),
    ],
)
def test_a_validation_of_the_wrong_kinds(change, words):
    """Refused when it is made."""
    with pytest.raises((TypeError, ValueError), match=words):
        dataclasses.replace(VALIDATION, **change)


def test_a_validation_crosses_jits_and_maps():
    """What JAX makes of it on the way, with stand-ins for its arrays, is not refused."""
    listed = dataclasses.replace(VALIDATION, weights=[1.0, 0, 0, 0, 0, 1])
    assert listed.weights == (1.0, 0, 0, 0, 0, 1)
    phi = SMALL.init(jax.random.key(0))
    scores = jax.jit(jax.vmap(type(listed).score, in_axes=(None, 0)))(
        listed, jax.tree.map(lambda p: jnp.stack([p, p]), phi)
    )
    np.testing.assert_allclose(scores, listed.score(phi), rtol=1e-5)
    jax.tree.map(lambda _: None, listed)
    jax.eval_shape(lambda validation: validation, listed)


def test_a_run_given_up_keeps_its_result():
    """The best meta-parameters by validation are in the error."""

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Ends(Bowl):
        def estimate(self, meta_params, state, key):
            loss, grads, state, metrics = super().estimate(meta_params, state, key)
            return loss, jnp.where(state > 3, jnp.nan, grads), state, metrics

    with pytest.raises(l2ljax.DivergenceError) as caught:
        train(optax.sgd(0.5), 50, Ends(), max_consecutive_skips=2, max_restores=0)
    result = caught.value.result
    assert isinstance(result, l2ljax.MetaTrainResult)
    np.testing.assert_allclose(result.meta_params, 3 * (1 - 0.5**3))  # three good updates
    assert result.interrupted
    assert result.num_skipped >= 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda loss, grads: (loss, jax.tree.map(jnp.sum, grads)), "meta-gradient has shape ()"),
        (lambda loss, grads: (loss[None], grads), "meta-loss must be a scalar, got shape (1,)"),
    ],
)
def test_what_an_update_would_broadcast_is_refused(change, words):
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Broad(Bowl):
        def estimate(self, meta_params, state, key):
            loss, grads, *rest = super().estimate(meta_params, state, key)
            return *change(loss, grads), *rest

    with pytest.raises(ValueError, match=re.escape(words)):
        train(optax.sgd(0.1), 1, Broad())
