"""Tasks and learned optimizers that the tests of truncated backpropagation share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from l2ljax.base import CoordinateGroup, LearnedOptimizer, Task
from l2ljax.estimators import truncated_bptt
from l2ljax.optimizers import lstm, partition, rnnprop
from l2ljax.optimizers.preprocess import identity

NOISY_BOWL = Task(
    sample=lambda data, key: jax.random.normal(key, (3,)),
    init=lambda target, key: {"w": jax.random.normal(key, (3, 2)), "b": jnp.zeros(2)},
    batch=lambda data, target, key: target + 0.1 * jax.random.normal(key, (3,)),
    loss=lambda p, x: jnp.sum((x @ p["w"] + p["b"] - 1.0) ** 2) + 0.1 * jnp.sum(p["w"] ** 4),
)


class FirstMoment(NamedTuple):
    decay: jax.Array  # of the whole optimizer, no coordinate's
    moment: optax.Params


def _learned_start(phi):
    def init(params):
        return FirstMoment(phi["decay"] ** 2, jax.tree.map(lambda p: phi["start"] + 0 * p, params))

    def update(gradients, state, params=None, **extra):
        del params, extra
        moment = jax.tree.map(lambda m, g: state.decay * m + jnp.tanh(g), state.moment, gradients)
        updates = jax.tree.map(lambda m: -phi["rate"] * m, moment)
        return updates, state._replace(moment=moment)

    return optax.GradientTransformationExtraArgs(init, update)


LEARNED_START = LearnedOptimizer(  # its first state depends on the meta-parameters
    init=lambda key: {
        "start": 0.3 * jnp.ones(()),
        "decay": 0.8 * jnp.ones(()),
        "rate": jnp.ones(()),
    },
    transform=_learned_start,
    coordinate_groups=lambda params: (
        CoordinateGroup(tuple(range(len(jax.tree.leaves(params)))), _learned_start),
    ),
)
LABELS = {"w": "first", "b": "second"}
COORDINATEWISE = {
    "lstm": lstm((5, 4)),
    "identity": lstm((3,), preprocess=identity()),
    "partition": partition({"first": lstm((4,)), "second": lstm((3, 3))}, LABELS),
    "learned_start": LEARNED_START,
    "rnnprop": rnnprop((3,), b1=0.5, b2=0.8),
}
LEARNED_SGD = LearnedOptimizer(
    init=lambda key: {"log_rate": jnp.log(0.05), "log_decay": jnp.log(0.5)},
    transform=lambda phi: optax.with_extra_args_support(
        optax.sgd(jnp.exp(phi["log_rate"]), momentum=jnp.exp(phi["log_decay"]))
    ),
)
DECAYING = LearnedOptimizer(  # reads params, so coordinates' later gradients are not its only input
    init=lambda key: jnp.float32(0.01),
    transform=lambda decay: optax.with_extra_args_support(
        optax.chain(optax.add_decayed_weights(decay), optax.scale(-0.05))
    ),
)
ESTIMATE = jax.jit(lambda estimator, *args: estimator.estimate(*args))


def lively(optimizer, key=0):
    """Meta-parameters far enough from init that every derivative is of order one."""

    @jax.jit
    def draw(key):
        vector, unravel = jax.flatten_util.ravel_pytree(optimizer.init(key))
        return unravel(vector + 0.3 * jax.random.normal(key, vector.shape, vector.dtype))

    return draw(jax.random.key(key))


def make(optimizer, task=NOISY_BOWL, **options):
    settings = {"num_tasks": 2, "episode_length": 4, "unroll_length": 2} | options
    return truncated_bptt(task, optimizer, **settings)


def python_loop(estimator, meta_params, optimizees, opt_states, window_weights, task_keys):
    """One window, written out: the specification of the meta-loss with stopped gradients."""
    task, steps = estimator.task, estimator.unroll_length

    def meta_loss(meta_params):
        tx = estimator.optimizer.transform(meta_params)
        total, finals = 0.0, []
        for i, opt_state in enumerate(opt_states):
            instance, params = jax.tree.map(lambda x, i=i: x[i], optimizees)
            opt_state = tx.init(params) if opt_state is None else opt_state
            keys = jax.random.split(task_keys[i], steps + 1)
            for t in range(steps):
                batch = task.batch(task.data, instance, keys[t])
                gradients = jax.lax.stop_gradient(jax.grad(task.loss)(params, batch))
                updates, opt_state = tx.update(gradients, opt_state, params)
                params = optax.apply_updates(params, updates)
                batch = task.batch(task.data, instance, keys[t + 1])
                total += window_weights[t] * task.loss(params, batch)
            finals.append((params, opt_state))
        return total / len(opt_states), finals

    return jax.jit(jax.value_and_grad(meta_loss, has_aux=True))(meta_params)


def assert_close(actual, expected, rtol=2e-5):
    scale = max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(expected))
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)
