"""`meta_train`: the outer loop, its validation, its files, and how it stops and resumes."""

import dataclasses
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.base import GradientEstimator, LearnedOptimizer, Task
from l2ljax.estimators import truncated_bptt
from l2ljax.evaluation import evaluate
from l2ljax.optimizers import lstm
from l2ljax.optimizers.preprocess import identity
from l2ljax.training.loop import meta_train
from l2ljax.training.validation import PURPOSE, Validation

PARABOLA = Task(init=lambda _, key: jax.random.normal(key), loss=lambda x, _: x**2)
LEARNED_RATE = LearnedOptimizer(
    init=lambda key: jnp.float32(0.05),
    transform=lambda rate: optax.with_extra_args_support(optax.sgd(rate)),
)
SMALL = lstm((3,))
ESTIMATOR = truncated_bptt(PARABOLA, SMALL, num_tasks=4, episode_length=6, unroll_length=3)
VALIDATION = Validation(
    task=PARABOLA, optimizer=SMALL, key=jax.random.key(9), num_tasks=4, num_steps=6
)
ADAM = optax.adam(1e-2)


def train(num_meta_updates=8, **options):
    start = SMALL.init(jax.random.key(0))
    return meta_train(
        ESTIMATOR,
        ADAM,
        start,
        jax.random.key(1),
        num_meta_updates=num_meta_updates,
        **{"validation": VALIDATION, "validate_every": 2, "log_every": 1} | options,
    )


def same(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), a, b))


def test_updates_are_the_meta_optimizers():
    """Each update is one estimate and one Optax step, with the key folded by its number."""
    result = train(3, validation=None)
    init_key, run_key = jax.random.split(jax.random.key(1))
    meta_params = SMALL.init(jax.random.key(0))
    state, opt_state = ESTIMATOR.init(init_key, meta_params), ADAM.init(meta_params)
    for update in range(3):
        key = jax.random.fold_in(run_key, update)
        _, grads, state, _ = ESTIMATOR.estimate(meta_params, state, key)
        updates, opt_state = ADAM.update(grads, opt_state)
        meta_params = optax.apply_updates(meta_params, updates)
    for a, b in zip(jax.tree.leaves(result.meta_params), jax.tree.leaves(meta_params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert same(result.meta_params, result.last_meta_params)


def test_a_learned_rate_reaches_the_optimum():
    """f(x) = x^2 is solved in one step at rate 1/2, and that is where the rate goes."""
    estimator = truncated_bptt(
        PARABOLA,
        LEARNED_RATE,
        num_tasks=8,
        episode_length=1,
        unroll_length=1,
        second_derivatives=True,
    )
    result = meta_train(
        estimator, optax.adam(0.02), jnp.float32(0.05), jax.random.key(0), num_meta_updates=200
    )
    assert abs(float(result.meta_params) - 0.5) < 0.02


def test_callers_meta_params_survive_donation():
    """The state is donated, the arrays given are not."""
    start = SMALL.init(jax.random.key(0))
    meta_train(ESTIMATOR, ADAM, start, jax.random.key(1), num_meta_updates=2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(start))


def test_the_best_by_validation_is_kept():
    """What is returned has the least score recorded, and scores so when evaluated again."""
    result = train()
    scores = {r["update"]: r["validation_loss"] for r in result.history if "validation_loss" in r}
    assert sorted(scores) == [2, 4, 6, 8]
    assert result.best_update == min(scores, key=scores.get)
    np.testing.assert_allclose(result.best_score, min(scores.values()), rtol=1e-6)
    np.testing.assert_allclose(VALIDATION.score(result.meta_params), result.best_score, rtol=1e-5)


def test_validation_scores_the_weighted_mean_loss():
    """sum_t w_t f(theta_t) / sum_t w_t over t = 1 ... T, averaged; infinite when one diverges."""
    tx = LEARNED_RATE.transform(0.1)
    weights = (0.0, 1.0, 3.0)
    validation = Validation(
        task=PARABOLA,
        optimizer=LEARNED_RATE,
        key=jax.random.key(3),
        num_tasks=5,
        num_steps=3,
        weights=weights,
    )
    same = jax.random.fold_in(jax.random.key(3), PURPOSE)  # draws folded by purpose
    losses = evaluate(PARABOLA, tx, same, num_tasks=5, num_steps=3)
    expected = (np.asarray(losses)[:, 1:] @ np.array(weights) / 4).mean()
    np.testing.assert_allclose(validation.score(jnp.float32(0.1)), expected, rtol=1e-5)
    assert validation.score(jnp.float32(1e30)) == jnp.inf


def test_resumed_run_equals_an_unbroken_one(tmp_path):
    """Bit by bit: meta-parameters, best and history; what a cut left behind is dropped."""
    unbroken = train(8, workdir=tmp_path / "a", checkpoint_every=4)
    train(4, workdir=tmp_path / "b", checkpoint_every=4)
    with (tmp_path / "b" / "metrics.jsonl").open("a") as file:
        file.write('{"update": 5, "meta_loss": 123}\n{"update": 6, "meta_')
    resumed = train(8, workdir=tmp_path / "b", checkpoint_every=4)
    assert same(unbroken.last_meta_params, resumed.last_meta_params)
    assert same(unbroken.meta_params, resumed.meta_params)
    assert unbroken.history == resumed.history
    texts = [(tmp_path / run / "metrics.jsonl").read_text() for run in "ab"]
    assert texts[0] == texts[1]
    assert json.loads(texts[0].splitlines()[0])["update"] == 1


def test_a_finished_run_is_returned_as_it_was(tmp_path):
    """Started again, nothing is trained."""
    first, again = (train(4, workdir=tmp_path) for _ in range(2))
    assert same(first.meta_params, again.meta_params)
    assert first.history == again.history


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    """What differs is named, and the checkpoint stays."""
    train(2, workdir=tmp_path)
    other = lstm((5,))
    estimator = truncated_bptt(PARABOLA, other, num_tasks=4, episode_length=6, unroll_length=3)
    with pytest.raises(ValueError, match=r"hidden_sizes is \[3\] there, \[5\] here; "):
        meta_train(
            estimator,
            ADAM,
            other.init(jax.random.key(0)),
            jax.random.key(1),
            num_meta_updates=2,
            workdir=tmp_path,
        )
    assert train(2, workdir=tmp_path).num_meta_updates == 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Interrupting(GradientEstimator):
    """Sends its process a signal in the third estimate."""

    number: int = dataclasses.field(metadata={"static": True})

    def init(self, key, meta_params):
        return jnp.int32(0)

    def estimate(self, meta_params, state, key):
        def send(state):
            if state == 2:
                signal.raise_signal(self.number)

        jax.debug.callback(send, state, ordered=True)
        return jnp.float32(0), jax.tree.map(jnp.zeros_like, meta_params), state + 1, {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_with_a_checkpoint(tmp_path, number):
    """The run ends early, says so, and goes on when started again."""

    def run():
        return meta_train(
            Interrupting(number),
            ADAM,
            jnp.zeros(2),
            jax.random.key(0),
            num_meta_updates=50,
            workdir=tmp_path,
        )

    handler = signal.getsignal(number)
    first = run()
    assert first.interrupted
    assert 3 <= first.num_meta_updates < 50
    assert signal.getsignal(number) is handler
    assert run().num_meta_updates == 50


def test_counts_are_checked():
    """No run of zero updates."""
    with pytest.raises(ValueError, match="num_meta_updates must be an integer of at least 1"):
        train(0)
    with pytest.raises(ValueError, match="validate_every must be"):
        train(2, validate_every=0.5)


@pytest.mark.slow
def test_convergence_on_a_scalar_parabola():
    """DeepMind's own check: meta-trained on f(x) = x^2, the LSTM ends below 1e-5."""
    optimizer = lstm(preprocess=identity())
    estimator = truncated_bptt(
        PARABOLA, optimizer, num_tasks=64, episode_length=100, unroll_length=20
    )
    validation = dataclasses.replace(VALIDATION, optimizer=optimizer, num_tasks=128, num_steps=100)
    result = meta_train(
        estimator,
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2)),
        optimizer.init(jax.random.key(0)),
        jax.random.key(1),
        num_meta_updates=500,
        validation=validation,
        validate_every=20,
    )
    tx = optimizer.transform(result.meta_params)
    losses = evaluate(PARABOLA, tx, jax.random.key(5), num_tasks=128, num_steps=100)
    assert float(losses[:, -1].mean()) < 1e-5
