"""What public functions refuse: each in one sentence that names the argument.

Modules test their own refusals too; these are the arguments that several of them share.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tally import is_sentence

import l2ljax
from l2ljax.tasks import quadratic

KEY = jax.random.key(0)
TASK = quadratic(2)
LSTM = l2ljax.lstm((2,))
PHI = LSTM.init(KEY)
SGD = optax.sgd(0.1)
STATE = l2ljax.init_optimizee(TASK, SGD, KEY)
ESTIMATOR = l2ljax.truncated_bptt(TASK, LSTM, num_tasks=2, episode_length=2, unroll_length=2)


def evaluate(task=TASK, tx=SGD, key=KEY, num_tasks=2, num_steps=2, **options):
    l2ljax.evaluate(task, tx, key, num_tasks=num_tasks, num_steps=num_steps, **options)


def unroll(task=TASK, tx=SGD, state=STATE, key=KEY, num_steps=2, **options):
    l2ljax.unroll(task, tx, state, key, num_steps, **options)


def tune(task=TASK, make_tx=optax.sgd, rates=(0.1,), key=KEY, num_tasks=2, num_steps=2, at_once=2):
    l2ljax.tune(
        task, make_tx, rates, key, num_tasks=num_tasks, num_steps=num_steps, at_once=at_once
    )


def bptt(task=TASK, optimizer=LSTM, num_tasks=2, episode_length=4, unroll_length=2, **options):
    l2ljax.truncated_bptt(
        task,
        optimizer,
        num_tasks=num_tasks,
        episode_length=episode_length,
        unroll_length=unroll_length,
        **options,
    )


def with_data(data):
    return l2ljax.Task(init=lambda i, k: jnp.ones(2), loss=lambda p, b: jnp.sum(p**2), data=data)


def with_params(step):
    """A task whose parameters hold another thing than weights."""
    return l2ljax.Task(
        init=lambda i, k: {"w": jnp.ones(2), "step": step}, loss=lambda p, b: jnp.sum(p["w"] ** 2)
    )


WITH_AUX = l2ljax.Task(init=lambda i, k: jnp.ones(2), loss=lambda p, b: (jnp.sum(p**2), {"n": p}))


def starts(task):
    l2ljax.truncated_bptt(task, LSTM, num_tasks=2, episode_length=2, unroll_length=2).init(KEY, PHI)


def estimates(task):
    estimator = l2ljax.truncated_bptt(task, LSTM, num_tasks=2, episode_length=2, unroll_length=2)
    estimator.estimate(PHI, estimator.init(KEY, PHI), KEY)


def meta_train(estimator=ESTIMATOR, meta_optimizer=SGD, key=KEY, num_meta_updates=1, **options):
    l2ljax.meta_train(
        estimator, meta_optimizer, {}, key, num_meta_updates=num_meta_updates, **options
    )


class Plain(l2ljax.GradientEstimator):
    """An estimator of one's own that forgot to be a pytree."""

    def init(self, key, meta_params):
        return ESTIMATOR.init(key, meta_params)

    def estimate(self, meta_params, state, key):
        return ESTIMATOR.estimate(meta_params, state, key)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Holding(Plain):
    """One that is a pytree, though not of arrays."""

    scale: Callable = jnp.tanh


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mended(Plain):
    """As the refusals of the two say."""

    scale: Callable = dataclasses.field(default=jnp.tanh, metadata={"static": True})


def mixture(member):
    l2ljax.mixture({"own": member})


def curriculum(stage):
    l2ljax.curriculum([(None, stage)])


NO_PYTREE = "the class Plain is none: put @jax.tree_util.register_dataclass"
NO_ARRAYS = 'at scale; write that field as dataclasses.field(metadata={"static": True})'


def validation(**options):
    given = {"task": TASK, "optimizer": LSTM, "key": KEY, "num_tasks": 2, "num_steps": 2}
    l2ljax.Validation(**given | options)


def digits(name="digits", split="train", **options):
    l2ljax.load_dataset(name, split, **options)


BAD = [
    (evaluate, {"task": 3}, "task must be"),
    (evaluate, {"task": quadratic}, "task must be"),
    (evaluate, {"tx": LSTM}, "tx must be"),
    (evaluate, {"tx": 0.1}, "tx must be"),
    (evaluate, {"key": 0}, "key must be"),
    (evaluate, {"key": jnp.zeros(2)}, "key must be"),
    (evaluate, {"key": jax.random.split(KEY)}, "key must be"),
    (evaluate, {"num_tasks": 2.0}, "num_tasks must be"),
    (evaluate, {"num_steps": -1}, "num_steps must be"),
    (evaluate, {"at_once": 0}, "at_once must be"),
    (unroll, {"task": None}, "task must be"),
    (unroll, {"tx": "adam"}, "tx must be"),
    (unroll, {"state": (1, 2, 3)}, "state must come from"),
    (unroll, {"key": "0"}, "key must be"),
    (unroll, {"num_steps": np.float32(2)}, "num_steps must be"),
    (unroll, {"remat": "all"}, "remat must be"),
    (tune, {"task": {}}, "task must be"),
    (tune, {"make_tx": SGD}, "make_tx must be"),
    (tune, {"rates": 0.1}, "learning rate, got 0.1"),
    (tune, {"rates": ()}, "learning rate, got ()"),
    (tune, {"rates": (0.1, -1.0)}, "learning_rates must be"),
    (tune, {"rates": (float("nan"),)}, "learning_rates must be"),
    (tune, {"rates": ("0.1",)}, "learning_rates must be"),
    (tune, {"num_tasks": True}, "num_tasks must be"),
    (tune, {"at_once": 1.5}, "at_once must be"),
    (bptt, {"task": lambda: None}, "task must be"),
    (bptt, {"optimizer": SGD}, "optimizer must be"),
    (bptt, {"num_tasks": "2"}, "num_tasks must be"),
    (bptt, {"unroll_length": 3}, "unroll_length=3 does not divide"),
    (bptt, {"weights": "last"}, "weights must be numbers"),
    (bptt, {"weights": [1, 2]}, "weights must have one entry"),
    (bptt, {"weights": [1, 2, 3, -1]}, "weights must be finite"),
    (bptt, {"coordinate_share": "half"}, "coordinate_share must lie"),
    (bptt, {"coordinate_share": float("nan")}, "coordinate_share must lie"),
    (bptt, {"chunk_size": 0}, "chunk_size must be"),
    (bptt, {"backward": None}, "backward must be"),
    (bptt, {"mesh": 2}, "mesh must be"),
    (meta_train, {"estimator": LSTM}, "estimator must be a GradientEstimator"),
    (meta_train, {"estimator": Plain()}, NO_PYTREE),
    (meta_train, {"estimator": Holding()}, NO_ARRAYS),
    (mixture, {"member": Plain()}, NO_PYTREE),
    (mixture, {"member": 3}, "must be a GradientEstimator"),
    (curriculum, {"stage": Holding()}, NO_ARRAYS),
    (meta_train, {"meta_optimizer": optax.adam}, "meta_optimizer must be"),
    (meta_train, {"key": None}, "key must be"),
    (meta_train, {"num_meta_updates": -5}, "num_meta_updates must be"),
    (meta_train, {"validation": 3}, "validation must be a Validation or None"),
    (meta_train, {"workdir": 3}, "workdir must be a str or Path or None"),
    (meta_train, {"log_every": 0}, "log_every must be"),
    (validation, {"num_tasks": 0}, "num_tasks must be"),
    (validation, {"num_steps": 1.0}, "num_steps must be"),
    (validation, {"weights": (1.0,)}, "weights must be a tuple of 2 numbers"),
    (digits, {"name": 3}, "name must be a string"),
    (digits, {"split": None}, "split must be a string"),
    (digits, {"split": "validation"}, "Split 'validation'"),
    (digits, {"split": "x" * 5000}, "Split 'xxxx"),
    (digits, {"labels": "35"}, "labels must be"),
    (digits, {"labels": [3, 3]}, "labels must be"),
    (digits, {"labels": [99]}, "labels [99]"),
    (digits, {"data_dir": 3}, "data_dir must be a path"),
    (digits, {"data_dir": "a\0b"}, "data_dir must be a path"),
    (l2ljax.load_pretrained, {"name": 3}, "no bundled optimizer 3"),
    (l2ljax.load_pretrained, {"name": "../weights/lstm-mnist"}, "no bundled optimizer"),
    (l2ljax.load_optimizer, {"path": 3}, "path must be a path"),
    (l2ljax.load_optimizer, {"path": Path(__file__).parent}, "no weights file"),
    (l2ljax.partition, {"optimizers": [LSTM], "param_labels": {}}, "partition needs"),
    (l2ljax.partition, {"optimizers": {"a": SGD}, "param_labels": {}}, "member 'a' must be"),
    (evaluate, {"task": with_data(iter([1]))}, "task.data must hold arrays"),
    (evaluate, {"task": with_data({"x": 1.0, "name": "mnist"})}, "got 'mnist' at name"),
    (bptt, {"task": with_data(np.asarray(["a"]))}, "task.data must hold arrays"),
    (evaluate, {"task": WITH_AUX}, "scalar, got a tuple; return the loss alone"),
    (estimates, {"task": WITH_AUX}, "scalar, got a tuple; return the loss alone"),
    (evaluate, {"task": with_params(np.int32(1))}, "step has dtype int32; let init return None"),
    (evaluate, {"task": with_params(jnp.tanh)}, "step is <"),
    (starts, {"task": with_params(np.int32(1))}, "step has dtype int32; let init return None"),
    (l2ljax.task_mesh, {"num_tasks": 0}, "num_tasks must be"),
    (l2ljax.task_mesh, {"num_tasks": 2, "num_devices": "all"}, "num_devices must be"),
    (l2ljax.log_sign, {"p": "10"}, "log_sign needs"),
    (l2ljax.lstm, {"hidden_sizes": 20}, "hidden_sizes must be"),
    (l2ljax.lstm, {"output_scale": float("nan")}, "output_scale must be"),
    (l2ljax.lstm, {"dtype": "int8"}, "dtype must be"),
]


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    BAD,
    ids=[f"{f.__name__}-{'-'.join(a)}-{i}" for i, (f, a, _) in enumerate(BAD)],
)
def test_bad_arguments_are_refused_in_one_sentence(function, arguments, words):
    """Before anything is compiled or written."""
    with pytest.raises((ValueError, TypeError, OSError)) as error:
        function(**arguments)
    assert words in str(error.value)
    assert is_sentence(str(error.value)), error.value


def test_none_among_a_tasks_params_works():
    """What the refusal of an integer says: None in its place, the number in the instance."""
    task = l2ljax.Task(
        sample=lambda data, key: jnp.int32(3),
        init=lambda step, key: {"w": jnp.ones(2), "step": None},
        loss=lambda p, step: step * jnp.sum(p["w"] ** 2),
    )
    losses = l2ljax.evaluate(task, optax.sgd(1 / 12), KEY, num_tasks=1, num_steps=1)
    np.testing.assert_allclose(losses, [[6.0, 1.5]], rtol=1e-6)  # w -> w - 6 w / 12
    estimates(task)


def test_good_arguments_are_not():
    """Keys of the old kind too, and an estimator that was mended as its refusal says."""
    l2ljax.meta_train(Mended(), SGD, PHI, KEY, num_meta_updates=1)
    mixture(Mended())
    evaluate(key=jax.random.PRNGKey(0))
    bptt(weights=lambda t: t == t[-1])
