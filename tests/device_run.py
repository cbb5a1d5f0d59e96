"""A short run, estimates and more on the devices that there are, printed as JSON.

A CPU can pose as several devices, but only from before JAX starts, and processes are processes. So
this is a script, `device_run.py WORKDIR DEVICES UPDATES [PROCESSES ID PORT]`, and
`test_parallel.py` judges what it prints.
"""

import contextlib
import dataclasses
import json
import math
import os
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from l2ljax import parallel
from l2ljax.base import Task
from l2ljax.estimators import truncated_bptt
from l2ljax.optimizers import lstm
from l2ljax.tasks import mlp, quadratic
from l2ljax.tasks.data import Images
from l2ljax.training.loop import meta_train
from l2ljax.training.validation import Validation

NUM_TASKS = 8
WINDOWS = {"num_tasks": NUM_TASKS, "episode_length": 4, "unroll_length": 2}
KINDS = {
    "recorded": {},
    "sampled": {"coordinate_share": 0.3},
    "scan": {"backward": "scan"},
}
OPTIMIZER = lstm((5,))
COLLECTIVE = r"all-gather|all-reduce|all-to-all|collective-\w+|reduce-scatter"


def small_mlp():
    rng = np.random.default_rng(0)
    images = Images(rng.integers(0, 256, (64, 4, 4, 1), np.uint8), np.arange(64) % 3)
    return mlp(images, hidden_sizes=(4,), batch_size=8)


def often_diverging(task):
    """`task` with a loss that is NaN for about a third of its optimizees."""

    def loss(params, batch):
        return jnp.where(params[0]["kernel"][0, 0] > 0.1, jnp.nan, task.loss(params, batch))

    return dataclasses.replace(task, loss=loss)


def estimates(mesh, kind):
    """Losses, meta-gradients and divergences of two windows and one more."""
    task = often_diverging(small_mlp()) if kind == "recorded" else small_mlp()
    estimator = truncated_bptt(task, OPTIMIZER, mesh=mesh, **WINDOWS, **KINDS[kind])
    meta_params = parallel.replicate(OPTIMIZER.init(jax.random.key(0)), mesh)
    state = jax.jit(type(estimator).init)(estimator, jax.random.key(1), meta_params)
    step = jax.jit(type(estimator).estimate)
    found = []
    for update in range(3):
        loss, grads, state, metrics = step(estimator, meta_params, state, jax.random.key(update))
        found.append((loss, grads, metrics["losses"], metrics["diverged_at"]))
    sharding = jax.tree.leaves(state.optimizees.params)[0].sharding
    return jax.tree.map(lambda x: np.asarray(x).tolist(), found), str(sharding)


def sampled_parts(mesh):
    """How far the mean of many sampled meta-gradients is from the exact one, in standard errors."""
    gradients = {}
    for share in (1.0, 0.3):
        estimator = truncated_bptt(
            quadratic(5), OPTIMIZER, num_tasks=2, episode_length=4, unroll_length=2,
            coordinate_share=share, mesh=mesh,
        )  # fmt: skip
        meta_params = parallel.replicate(OPTIMIZER.init(jax.random.key(0)), mesh)
        state = jax.jit(type(estimator).init)(estimator, jax.random.key(1), meta_params)
        step = jax.jit(type(estimator).estimate)
        # In an episode's second window nothing is random but the choice of coordinates.
        _, _, state, _ = step(estimator, meta_params, state, jax.random.key(2))
        draws = [
            ravel_pytree(step(estimator, meta_params, state, jax.random.key(draw))[1])[0]
            for draw in range(1 if share == 1 else 400)
        ]
        gradients[share] = np.asarray(jnp.stack(draws), np.float64)
    standard_errors = gradients[0.3].std(axis=0, ddof=1) / np.sqrt(400)
    errors = gradients[0.3].mean(axis=0) - gradients[1.0][0]
    varies = standard_errors > 1e-9
    return float(np.abs(errors[varies] / standard_errors[varies]).max()), int(varies.sum())


def local_draws(mesh):
    """The mean loss where each device's part of the data is its own number, 0 ... 7."""
    task = Task(
        init=lambda instance, key: jnp.zeros(2),
        batch=lambda data, instance, key: jax.random.choice(key, data),
        loss=lambda params, number: number + 0 * params.sum(),
        data=jnp.repeat(jnp.arange(8.0), 4),
    )
    estimator = truncated_bptt(task, OPTIMIZER, mesh=mesh, shard_data=True, **WINDOWS)
    meta_params = parallel.replicate(OPTIMIZER.init(jax.random.key(0)), mesh)
    state = estimator.init(jax.random.key(1), meta_params)
    _, _, _, metrics = jax.jit(type(estimator).estimate)(
        estimator, meta_params, state, jax.random.key(2)
    )
    return np.asarray(metrics["losses"]).tolist()


def sharded_parameters(backward):
    """Tasks over one mesh axis, parameters over another: errors, and what the program sends."""
    both = jax.make_mesh((2, 4), ("tasks", "model"), axis_types=(AxisType.Auto,) * 2)
    estimates = []
    for mesh in (None, both):

        def init(instance, key, mesh=mesh):
            weights = jax.random.normal(key, (16, 8))
            return jax.lax.with_sharding_constraint(weights, P("model")) if mesh else weights

        task = Task(
            sample=lambda data, key: jax.random.normal(key, (16,)),
            init=init,
            loss=lambda weights, x: jnp.mean((x @ weights - 1) ** 2),
        )
        estimator = truncated_bptt(task, OPTIMIZER, mesh=mesh, backward=backward, **WINDOWS)
        meta_params = OPTIMIZER.init(jax.random.key(0))
        with jax.set_mesh(mesh) if mesh else contextlib.nullcontext():
            state = jax.jit(type(estimator).init)(estimator, jax.random.key(1), meta_params)
            arguments = (estimator, meta_params, state, jax.random.key(2))
            program = jax.jit(type(estimator).estimate).lower(*arguments).compile()
            _, grads, state, _ = program(*arguments)
        estimates.append(grads)
    errors = jax.tree.map(lambda a, b: float(abs(a - b).max() / abs(a).max()), *estimates)
    gathered = [
        math.prod(map(int, re.findall(r"\d+", shape)))
        for line in program.as_text().splitlines()
        if " all-gather(" in line
        for shape in re.findall(r"\w\[([\d,]+)\]", line.split(" all-gather(")[0])
    ]
    return {
        "gathered": max(gathered, default=0),
        "errors": jax.tree.leaves(errors),
        "spec": list(state.optimizees.params.sharding.spec),
        "collectives": sorted(set(re.findall(COLLECTIVE, program.as_text()))),
    }


def train(workdir, mesh, num_meta_updates):
    estimator = truncated_bptt(quadratic(4), OPTIMIZER, mesh=mesh, **WINDOWS)
    validation = Validation(
        task=quadratic(4), optimizer=OPTIMIZER, key=jax.random.key(9), num_tasks=8, num_steps=4,
        mesh=mesh,
    )  # fmt: skip
    return meta_train(
        estimator,
        optax.adam(0.01),
        OPTIMIZER.init(jax.random.key(0)),
        jax.random.key(1),
        num_meta_updates=num_meta_updates,
        validation=validation,
        validate_every=2,
        log_every=1,
        workdir=workdir,
    )


def main(workdir, num_devices, num_meta_updates, processes=1, process_id=0, port=0):
    last = num_devices == 1 and os.path.exists(f"{workdir}/checkpoints")
    if processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", processes, process_id)
    mesh = parallel.task_mesh(NUM_TASKS, num_devices)
    eight = jax.local_device_count() == 8
    parts = parallel.task_mesh(2, 8, coordinate_devices=4) if eight else None
    result = train(workdir, mesh, num_meta_updates)
    print(
        json.dumps(
            {
                "meta_params": jax.tree.map(lambda x: np.asarray(x).tolist(), result.meta_params),
                "score": result.best_score,
                "losses": [r["meta_loss"] for r in result.history if "meta_loss" in r],
                "sharded": {b: sharded_parameters(b) for b in ("scan", "recorded")}
                if eight
                else None,
                "local draws": local_draws(mesh) if mesh else None,
                "parts": (estimates(parts, "recorded")[0], sampled_parts(parts)) if parts else None,
                "estimates": {kind: estimates(mesh, kind) for kind in ([] if last else KINDS)},
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
