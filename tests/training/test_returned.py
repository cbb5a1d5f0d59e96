"""An estimator that returns what a run cannot go on from is refused at the first step."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
import pytest

from l2ljax import GradientEstimator, meta_train
from l2ljax.training.step import init_state, validate


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Returning(GradientEstimator):
    """The gradient of phi^2, in whatever form `change` gives what `estimate` returns."""

    change: Callable = dataclasses.field(metadata={"static": True})

    def init(self, key, meta_params):
        return {"count": jnp.zeros([1], jnp.int32)}

    def estimate(self, meta_params, state, key):
        return self.change(meta_params**2, 2 * meta_params, state["count"], {})


REFUSED = {
    "dtype": (lambda a, g, s, m: (a, g, {"count": s + 0.5}, m), "float32 at count.*int32"),
    "shape": (lambda a, g, s, m: (a, g, {"count": jnp.append(s, 1)}, m), r"\(2,\) at count.*\(1,"),
    "leaf": (lambda a, g, s, m: (a, g, {"count": s, "more": s}, m), "leaf more"),
    "structure": (lambda a, g, s, m: (a, g, {}, m), "lacks the leaf count"),
    "text in state": (lambda a, g, s, m: (a, g, {"count": "x"}, m), "state is 'x' at count"),
    "three": (lambda a, g, s, m: (a, g, {"count": s}), r"meta_gradient.*got 3 values"),
    "one": (lambda a, g, s, m: a, "must return .*meta_loss.*return all four"),
    "text": (lambda a, g, s, m: (a, g, {"count": s}, {"who": "x"}), "metric who is 'x'"),
    "text loss": (lambda a, g, s, m: ("x", g, {"count": s}, m), "meta-loss is 'x'"),
    "object": (lambda a, g, s, m: (a, g, {"count": s}, {"it": object()}), "metric it is <object"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_a_sentence(name):
    change, sentence = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=sentence):
        _train(change)


def test_a_state_that_keeps_its_kind_is_accepted():
    """Phi goes 1 -> 1 - 0.1 * 2 * 1 = 0.8 -> 0.64."""
    result = _train(lambda a, g, s, m: (a, g, {"count": s + 1}, {"loss": a, "flags": [True]}))
    assert float(result.meta_params) == pytest.approx(0.64)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scoring:
    """Stands for a `Validation`; `of` makes the score of phi."""

    of: Callable = dataclasses.field(metadata={"static": True})

    def score(self, meta_params):
        return self.of(meta_params)


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (lambda phi: phi[None] ** 2, r"has dtype float32 and shape \(1,\); return a real number"),
        (lambda phi: phi + 1j, r"has dtype complex64 and shape \(\); return a real number"),
        (lambda phi: (phi, {}), r"real scalar, but this one is \(.*; return a real number"),
        (lambda phi: None, "real scalar, but this one is None; return a real number"),
    ],
)
def test_a_score_that_is_no_scalar_is_refused(of, words):
    with pytest.raises(ValueError, match=words):
        _train(_keeping, validation=Scoring(of))


def test_a_score_of_another_dtype_changes_no_state(tmp_path):
    """Of float64 the best is kept as float32: phi^2 after 0.8, and the run goes on after a stop."""
    with jax.enable_x64(True):
        scoring = Scoring(lambda phi: phi.astype(jnp.float64) ** 2)
        state = init_state(Returning(_keeping), SGD, jnp.float32(0.8), jax.random.key(0))
        state, score = validate(scoring, state)
        assert (state.best_score.dtype, score.dtype) == (jnp.float32, jnp.float32)
        assert float(state.best_score) == pytest.approx(0.64)
        for number in (2, 3):  # the second goes on from the checkpoint of the first
            found = _train(_keeping, number, validation=scoring, validate_every=1, workdir=tmp_path)
    assert found.best_score == pytest.approx(0.8 ** (2 * 3))
    assert [r["update"] for r in found.history if "validation_loss" in r] == [1, 2, 3]


def _keeping(meta_loss, meta_gradient, count, metrics):
    return meta_loss, meta_gradient, {"count": count}, metrics


SGD = optax.sgd(0.1)


def _train(change, number=2, **options):
    start, key = jnp.float32(1.0), jax.random.key(0)
    return meta_train(Returning(change), SGD, start, key, num_meta_updates=number, **options)
