"""An estimator that returns what a run cannot go on from is refused at the first step."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
import pytest

from l2ljax import GradientEstimator, meta_train


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


def _train(change):
    start, key = jnp.array(1.0), jax.random.key(0)
    return meta_train(Returning(change), optax.sgd(0.1), start, key, num_meta_updates=2)
