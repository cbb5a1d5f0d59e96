"""Every estimator x every learned optimizer x three kinds of task: two meta-updates, told as JSON.

    python tests/estimators/product.py pes/lstm/transformed nres/celo2/mixture ...

A CPU can pose as eight devices only from before JAX starts, so this is a script, which
`test_product.py` judges. Each case is run on one device and on all that there are.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from hashed_keys import HASHED
from optimizer_cases import by_rank

from l2ljax import parallel
from l2ljax.base import LearnedOptimizer, Task
from l2ljax.estimators import (
    curriculum,
    es,
    full_es,
    gpes,
    imitation,
    mixture,
    nres,
    pes,
    truncated_bptt,
)
from l2ljax.optimizers import (
    celo,
    celo2,
    celo_adam,
    hyperparameters,
    identity,
    log,
    lstm,
    nominal,
    partition,
    rnnprop,
    small_fc,
    velo,
    wrap,
)
from l2ljax.tasks.transforms import noisy_gradients, random_scale
from l2ljax.training.step import init_state, meta_step

NUM_TASKS = 8
OPTIMIZERS = {
    "celo": lambda: celo(num_steps=1000, hidden_size=4, step_scale=0.1),
    "celo2": lambda: celo2((3,), learning_rate=1e-2),
    "celo_adam": lambda: celo_adam(num_steps=1000, hidden_size=4, step_scale=0.1),
    "hyperparameters": lambda: hyperparameters(
        optax.adam, {"learning_rate": log(1e-2)}, spread=0.1, coordinatewise=True
    ),
    "lstm": lambda: lstm((3,), preprocess=identity()),
    "nominal": lambda: nominal((3,)),
    "partition": lambda: partition({"matrix": lstm((3,)), "vector": lstm((2,))}, by_rank),
    "rnnprop": lambda: rnnprop((3,)),
    "small_fc": lambda: small_fc((3,), step_scale=0.1),
    "velo": lambda: calm(velo(num_steps=1000, hidden_size=4, bank_size=3, step_scale=0.01)),
    "wrap": lambda: wrap(
        lstm((3,)), lambda tx: optax.chain(optax.clip_by_global_norm(1.0), tx, optax.scale(0.5))
    ),
}
"""One of each builder in `l2ljax.optimizers.BUILDERS`, as small as it can be.

Of a training of 10 steps all averages of the loss that Celo and VeLO see are the same, and how they
stand to one another is rounding.
"""


def calm(optimizer: LearnedOptimizer) -> LearnedOptimizer:
    """Begins with a tenth of the weights: VeLO's bank, drawn anew, has hundreds for outputs."""
    return optimizer._replace(
        init=lambda key: jax.tree.map(lambda leaf: 0.1 * leaf, optimizer.init(key))
    )


WINDOWS = {"num_tasks": NUM_TASKS, "episode_length": 4, "unroll_length": 2}
APART = WINDOWS | {"episode_length": (2, 6), "stagger": True}
NOISE = {"num_perturbations": 2, "sigma": 0.1}
INSIDE = WINDOWS | NOISE | {"episode_length": 3}  # episodes end inside windows
ESTIMATORS = {
    "curriculum": lambda task, optimizer, mesh: curriculum(
        [
            (1, truncated_bptt(task, optimizer, mesh=mesh, **WINDOWS)),
            (None, nres(task, optimizer, mesh=mesh, **WINDOWS, **NOISE)),
        ]
    ),
    "es": lambda task, optimizer, mesh: es(task, optimizer, mesh=mesh, **INSIDE),
    "full_es": lambda task, optimizer, mesh: full_es(
        task, optimizer, mesh=mesh, num_tasks=NUM_TASKS, episode_length=3, **NOISE
    ),
    "gpes": lambda task, optimizer, mesh: gpes(
        task, optimizer, mesh=mesh, reuse_length=3, **WINDOWS, **NOISE
    ),
    "imitation": lambda task, optimizer, mesh: imitation(
        task, optimizer, optax.adam(0.1), mesh=mesh, **WINDOWS
    ),
    "mixture": lambda task, optimizer, mesh: mixture(
        {
            "evolved": pes(task, optimizer, mesh=mesh, **WINDOWS, **NOISE),
            "differentiated": truncated_bptt(task, optimizer, mesh=mesh, **WINDOWS),
        }
    ),
    "nres": lambda task, optimizer, mesh: nres(task, optimizer, mesh=mesh, **INSIDE),
    "pes": lambda task, optimizer, mesh: pes(
        task, optimizer, mesh=mesh, perturbations_at_once=1, **INSIDE
    ),
    "scan": lambda task, optimizer, mesh: truncated_bptt(
        task, optimizer, mesh=mesh, backward="scan", **WINDOWS
    ),
    "staggered": lambda task, optimizer, mesh: truncated_bptt(task, optimizer, mesh=mesh, **APART),
    "truncated_bptt": lambda task, optimizer, mesh: truncated_bptt(
        task, optimizer, mesh=mesh, **WINDOWS
    ),
}
"""One of each builder in `l2ljax.estimators.BUILDERS`, and truncated backpropagation's kinds."""

KINDS = {
    "single": lambda build: build(regression(3)),
    "mixture": lambda build: mixture(
        {"narrow": build(regression(2)), "wide": build(regression(3))}
    ),
    "transformed": lambda build: build(
        random_scale(noisy_gradients(regression(3), 0.1), 0.5, 2.0, per_tensor=True)
    ),
}


def regression(width: int) -> Task:
    """A layer of `width` inputs and two outputs, fitted to another one on noisy minibatches."""

    def draw(key, scale=1.0):
        weights, bias = jax.random.split(key)
        return {
            "weights": scale * jax.random.normal(weights, (width, 2)),
            "bias": scale * jax.random.normal(bias, (2,)),
        }

    def batch(data, instance, key):
        inputs = jax.random.normal(key, (4, width))
        return inputs, inputs @ instance["weights"] + instance["bias"]

    def loss(params, batch):
        inputs, targets = batch
        return jnp.mean((jnp.tanh(inputs @ params["weights"]) + params["bias"] - targets) ** 2)

    return Task(
        sample=lambda data, key: draw(key),
        init=lambda instance, key: draw(key, 0.5),
        batch=batch,
        loss=loss,
    )


ONE_ULP = 2.0**-23
"""The relative distance of neighbouring float32 numbers."""


def two_updates(name: str, num_devices: int, nudge: float = 0.0) -> dict:
    """Meta-losses, and by how much the meta-parameters moved: each update has the length 0.1.

    Args:
        name: "estimator/optimizer/kind".
        num_devices: of the mesh; 1: none.
        nudge: relative change of the meta-parameters that it begins with.
    """
    estimator_name, optimizer_name, kind = name.split("/")
    mesh = parallel.task_mesh(NUM_TASKS, num_devices) if num_devices > 1 else None
    optimizer = OPTIMIZERS[optimizer_name]()
    estimator = KINDS[kind](lambda task: ESTIMATORS[estimator_name](task, optimizer, mesh))
    meta_optimizer = optax.chain(optax.normalize_by_update_norm(), optax.sgd(0.1))
    first = optimizer.init(jax.random.key(0, impl=HASHED))
    first = jax.tree.map(lambda leaf: leaf * jnp.asarray(1 + nudge, leaf.dtype), first)
    state = init_state(estimator, meta_optimizer, first, jax.random.key(1, impl=HASHED))
    losses = []
    for _ in range(2):
        state, metrics = meta_step(estimator, meta_optimizer, state)
        losses.append(float(metrics["meta_loss"]))
    moved = jax.tree.map(lambda new, old: np.asarray(new - old).tolist(), state.meta_params, first)
    return {"losses": losses, "moved": jax.tree.leaves(moved), "faults": int(state.faults.skipped)}


def distance(a: dict, b: dict) -> float:
    """The largest difference of two moves, or of two meta-losses relative to them."""
    moves = (np.concatenate([np.ravel(x) for x in each["moved"]]) for each in (a, b))
    losses = np.array([a["losses"], b["losses"]])
    relative = np.abs(losses[0] - losses[1]) / np.abs(losses).max(axis=0)
    return float(max(np.abs(np.subtract(*moves)).max(), relative.max()))


def main(names: list[str]) -> None:
    for name in names:
        begin = time.perf_counter()
        found = {"case": name, "one": two_updates(name, 1)}
        found["all"] = two_updates(name, jax.device_count())
        if distance(found["one"], found["all"]) > 1e-5:
            found["rounded"] = [two_updates(name, 1, nudge) for nudge in (ONE_ULP, -ONE_ULP)]
        found["seconds"] = round(time.perf_counter() - begin, 1)
        print(json.dumps(found), flush=True)
        meta_step.clear_cache()  # and not the small programs that all cases have


if __name__ == "__main__":
    main(sys.argv[1:])
