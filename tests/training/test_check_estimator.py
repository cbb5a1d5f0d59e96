"""`check_estimator` accepts a correct estimator and tells each fault by a sentence of its own."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tally import is_sentence

import l2ljax
from l2ljax import GradientEstimator, LearnedOptimizer, Task

START = {"log_rate": jnp.float32(2.0), "momentum": jnp.ones(3, jnp.bfloat16)}
OPTIMIZER = LearnedOptimizer(
    init=lambda key: START,
    transform=lambda phi: optax.with_extra_args_support(optax.sgd(jnp.exp(phi["log_rate"]))),
)
TASK = Task(
    init=lambda instance, key: jnp.ones(2),
    loss=lambda params, batch: jnp.sum(params**2),
    data={"x": jnp.arange(6.0).reshape(2, 3)},
)


def half_square(tree):
    return sum(jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(tree)) / 2


def kept(loss, grads, state, metrics, **given):
    return loss, grads, state, metrics


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimator(GradientEstimator):
    """L(phi) = |phi|^2 / 2 + noise, whose gradient is phi; `change` does to it what it likes."""

    task: Task = TASK
    change: Callable = dataclasses.field(default=kept, metadata={"static": True})
    first: Callable = dataclasses.field(default=lambda s: s, metadata={"static": True})
    size: Any = dataclasses.field(default=1, metadata={"static": True})

    def init(self, key, meta_params):
        return self.first({"count": jnp.zeros([], jnp.int32), "key": key})

    def estimate(self, meta_params, state, key):
        loss = half_square(meta_params) + 0.1 * jax.random.normal(key)
        state = {**state, "count": state["count"] + 1}
        metrics = {"losses": jnp.full(3, loss)}
        return self.change(loss, meta_params, state, metrics, key=key, phi=meta_params)


def check(estimator, **options):
    l2ljax.check_estimator(estimator, TASK, OPTIMIZER, **options)


def changed(**parts):
    """An estimator with one of what it returns replaced by a function of what there was."""

    def change(loss, grads, state, metrics, **given):
        there = {"loss": loss, "grads": grads, "state": state, "metrics": metrics}
        return tuple((there | {n: f(there[n]) for n, f in parts.items()}).values())

    return Estimator(change=change)


def by_count(change):
    """As `changed`, of the meta-gradient, with the number of estimates made."""

    def of_state(loss, grads, state, metrics, **given):
        return loss, jax.tree.map(lambda g: change(g, state["count"]), grads), state, metrics

    return Estimator(change=of_state)


def from_host():
    """Its loss counts the calls of a function on the host, which no checkpoint keeps."""
    calls = itertools.count()
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    draw = lambda _: np.float32(next(calls))  # noqa: E731

    def change(loss, grads, state, metrics, **given):
        return loss + jax.pure_callback(draw, shape, loss), grads, state, metrics

    return Estimator(change=change)


def drawn_at_tracing():
    numbers = itertools.count()  # as np.random does, and surely different
    return changed(loss=lambda loss: loss + next(numbers))


def other_every_time():
    class Restless(Estimator):
        def at(self, update):
            return dataclasses.replace(self, change=lambda *args, **given: kept(*args))

    jax.tree_util.register_dataclass(Restless)
    return Restless()


def kept_outside():
    """It keeps a traced array where the next call finds it."""
    last = []

    def change(loss, grads, state, metrics, **given):
        last.append(loss)
        return loss + last[0], grads, state, metrics

    return Estimator(change=change)


class NoPytree(GradientEstimator):
    init = estimate = lambda self, *args: None


BRANCH = "estimate.* cannot be compiled by jax.jit .*; compute with jax.numpy"
FAULTS = {
    "a function": (lambda: kept, "estimator must be a GradientEstimator"),
    "no pytree": (NoPytree, "estimator must be a pytree.*NoPytree is none"),
    "text for a leaf": (lambda: Estimator(task="x"), "pytree of arrays, got 'x' at task"),
    "an array in a static field": (lambda: Estimator(size=np.ones(2)), "holds an array .*float64"),
    "other data": (
        lambda: Estimator(task=dataclasses.replace(TASK, data={"x": jnp.ones((2, 3))})),
        r"task.data's x \(float32 \[2, 3\]\).*constant.*not static",
    ),
    "a new program each time": (other_every_time, r"at\(0\).*each time.*compiled anew"),
    "no array in init": (
        lambda: Estimator(first=lambda s: s | {"who": "x"}),
        "init.. returns is 'x' at who",
    ),
    "a branch on a value": (changed(loss=lambda x: x if x > 0 else -x), BRANCH),
    "an array kept outside": (kept_outside, BRANCH),
    "three values": (Estimator(change=lambda *four, **given: four[:3]), "got 3 values"),
    "a vector for a loss": (changed(loss=lambda x: x[None]), r"must be a scalar, got shape \(1,"),
    "an integer for a loss": (changed(loss=lambda x: x.astype(int)), "real float, got dtype int"),
    "no gradient of a leaf": (
        changed(grads=lambda g: {"log_rate": g["log_rate"]}),
        "lacks the leaf momentum",
    ),
    "a gradient of another dtype": (
        changed(grads=lambda g: jax.tree.map(lambda x: x.astype(jnp.float32), g)),
        "meta-gradient has dtype float32 at momentum, expected bfloat16",
    ),
    "a state of another dtype": (
        changed(state=lambda s: s | {"count": s["count"] * 1.0}),
        "float32 at count, expected int32",
    ),
    "a weak state": (
        dataclasses.replace(
            changed(state=lambda s: s | {"count": s["count"].astype(jnp.int32)}),
            first=lambda s: s | {"count": 0},
        ),
        r"count is weakly typed.*what init\(\) returns alone.*compiled twice",
    ),
    "text for a metric": (changed(metrics=lambda m: m | {"who": "x"}), "metric who is 'x'"),
    "a metric of a taken name": (changed(metrics=lambda m: {"faults": 1}), "named faults"),
    "NaN": (by_count(lambda g, n: jnp.where(n > 1, jnp.nan, g)), "Estimate 2 of 3.*not finite"),
    "a hidden loader": (from_host, "again from the same state.*meta-loss differs.*in the state"),
    "a draw while tracing": (drawn_at_tracing, "again from the same state.*from the key alone"),
    "no gradient": (by_count(lambda g, n: g * 0), "0 in every entry of 3 estimates"),
    "the wrong sign": (by_count(lambda g, n: -g), "raises its meta-loss in all of 8 draws"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_in_a_sentence_of_its_own(name):
    fault, sentence = FAULTS[name]
    with pytest.raises((TypeError, ValueError), match=sentence) as raised:
        check(fault if isinstance(fault, Estimator) else fault())
    assert is_sentence(str(raised.value))


def test_what_is_right_is_accepted():
    """The gradient of |phi|^2 / 2 is phi; noise in one leaf is outweighed by the rest."""
    check(Estimator())
    check(by_count(lambda g, n: g / n.astype(g.dtype)))


def test_another_meta_gradient_on_several_devices_is_found():
    """A sum over two devices in the place of a mean: twice the gradient, 2 at log_rate for 1."""
    check(Estimator(), on_mesh=Estimator())
    twice = by_count(lambda g, n: 2 * g)
    with pytest.raises(ValueError, match=r"on_mesh.*log_rate differs by 2 of 2; .*mean_over_tasks"):
        check(Estimator(), on_mesh=twice)


def test_a_bundled_estimator_on_a_mesh_is_itself():
    """Of one device, as a test of the suite has; eight are `test_es_devices`."""
    options = {"num_tasks": 2, "episode_length": 2, "unroll_length": 2}
    task, optimizer = l2ljax.tasks.quadratic(2), l2ljax.lstm((2,))
    one, other = (
        l2ljax.truncated_bptt(task, optimizer, mesh=mesh, **options)
        for mesh in (None, l2ljax.task_mesh(2, 1))
    )
    l2ljax.check_estimator(one, task, optimizer, on_mesh=other)
