"""Rules and problems on which the recorded backward pass is compared with the scan."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from l2ljax import CoordinateGroup, LearnedOptimizer, Task, lstm
from l2ljax.estimators import truncated_bptt
from l2ljax.optimizers.preprocess import identity


def coordinatewise(make_tx, start):
    """A learned optimizer whose rule serves all leaves, in one group."""

    def groups(params):
        return (CoordinateGroup(tuple(range(len(jax.tree.leaves(params)))), make_tx),)

    return LearnedOptimizer(lambda key: jnp.asarray(start), make_tx, groups)


def chained(*parts):
    return optax.with_extra_args_support(optax.chain(*parts))


RULES = {
    "rate": lambda: coordinatewise(lambda r: chained(optax.scale(-r)), 0.1),
    "momentum": lambda: coordinatewise(
        lambda m: chained(optax.trace(jax.nn.sigmoid(m)), optax.scale(-0.1)), 0.3
    ),
    "rms": lambda: coordinatewise(
        lambda r: chained(optax.scale_by_rms(eps=1e-3), optax.scale(-r)), 0.05
    ),
    "squash": lambda: coordinatewise(
        lambda r: optax.with_extra_args_support(
            optax.stateless(lambda g, _: jax.tree.map(lambda x: -0.1 * jnp.tanh(r * x), g))
        ),
        2.0,
    ),
    "frozen": lambda: coordinatewise(lambda r: chained(optax.set_to_zero()), 1.0),
    "lstm-skip": lambda: lstm((2,), identity(), nonfinite="skip"),
}


def problem(shapes, dtypes, poison=None):
    """Parabolas with random centres; `poison`: the first coordinate's gradient is NaN in one."""
    from l2ljax.estimators.checking import _poisoned

    names = [f"l{i}" for i in range(len(shapes))]

    def init(instance, key):
        keys = jax.random.split(key, len(names))
        return {
            n: jax.random.normal(k, s).astype(d)
            for n, k, s, d in zip(names, keys, shapes, dtypes, strict=True)
        }

    def loss(params, batch):
        centre, sick = batch
        if poison:
            params = _poisoned(params, sick)
        return sum(
            (0.5 * jnp.sum(jnp.square(p.astype(jnp.float32) - centre)) for p in params.values()),
            jnp.zeros([]),
        )

    return Task(
        init=init,
        loss=loss,
        sample=lambda data, key: (jax.random.normal(key), jax.random.uniform(key) < 0.5),
    )


def meta_gradient(task, optimizer, backward, num_tasks=3, steps=3, **options):
    estimator = truncated_bptt(
        task,
        optimizer,
        num_tasks=num_tasks,
        episode_length=steps,
        unroll_length=steps,
        backward=backward,
        **options,
    )
    meta_params = optimizer.init(jax.random.key(0))

    @jax.jit
    def run(estimator, meta_params):
        state = estimator.init(jax.random.key(1), meta_params)
        return estimator.estimate(meta_params, state, jax.random.key(5))

    loss, gradient, _, metrics = run(estimator, meta_params)
    return loss, gradient, metrics["diverged_at"]


def assert_same(task, optimizer, rtol=1e-5, **options):
    scan = meta_gradient(task, optimizer, "scan")
    recorded = meta_gradient(task, optimizer, "recorded", **options)
    for a, b in zip(jax.tree.leaves(recorded), jax.tree.leaves(scan), strict=True):
        # Contributions of about 1 may cancel between tasks: the bound follows their rounding then.
        scale = np.abs(np.nan_to_num(np.asarray(b, np.float64))).max(initial=0.1)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)
    return scan


LABELS = {
    "rank": lambda p: jax.tree.map(lambda x: "a" if jnp.ndim(x) > 1 else "b", p),
    "size": lambda p: jax.tree.map(lambda x: "a" if x.size > 3 else "b", p),
    "path": lambda p: jax.tree_util.tree_map_with_path(
        lambda path, _: "a" if "0" in jax.tree_util.keystr(path) else "b", p
    ),
}
