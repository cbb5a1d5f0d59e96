"""What is timed: each work is a function that makes a step, and each variant its options.

A step is `state -> state`, compiled; its cost is what a user of the library pays.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import evolve
import jax
import jax.numpy as jnp
import numpy as np
import optax
import use
from hidden_last import lstm_hidden_last

from l2ljax import estimators, optimizers, tasks
from l2ljax.base import LearnedOptimizer, Task
from l2ljax.optimizers import networks
from l2ljax.optimizers.preprocess import identity
from l2ljax.parallel import task_mesh
from l2ljax.tasks.data import Images
from l2ljax.training import init_state, meta_step

EPISODE = 100  # inner steps


@dataclasses.dataclass(frozen=True)
class Work:
    """One measurement to make.

    Attributes:
        make: () -> (step, state, what XLA reports of it); `step` donates its argument.
        coordinates: optimizee parameters in all, of all tasks.
        inner_steps: inner steps of each that one step makes.
        share: of the coordinates that the backward pass visits; `None` where there is none.
        features: of a coordinate, that the network sees.
        runs: optimizees that run side by side, whose inner steps are counted.
    """

    make: Callable[[], tuple[Callable[[Any], Any], Any, dict[str, float]]]
    coordinates: int
    inner_steps: int
    share: float | None
    features: int = 2
    runs: int = 1


def images_like(shape: tuple[int, ...], num_images: int = 12_800) -> Images:
    """Random images as sparse as MNIST's: a third of the inner pixels is not zero."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (num_images, *shape), dtype=np.uint8)
    pixels[rng.random(pixels.shape, dtype=np.float32) > 0.33] = 0
    return Images(jnp.asarray(pixels), jnp.asarray(rng.integers(0, 10, num_images)))


def compiled(function: Any, *arguments: Any) -> tuple[Any, dict[str, float]]:
    """A compiled function, and its compile time [s] and temporary memory [MiB]."""
    start = time.perf_counter()
    lowered = function.lower(*arguments)
    traced = time.perf_counter()
    program = lowered.compile()
    memory = program.memory_analysis()
    return program, {
        "trace_s": round(traced - start, 3),
        "compile_s": round(time.perf_counter() - traced, 3),
        "temporary_mib": round(memory.temp_size_in_bytes / 2**20, 2),
    }


def meta_update(
    make_task: Callable[[], Task],
    optimizer: LearnedOptimizer,
    num_tasks: int,
    devices: int = 1,
    **options: Any,
) -> Work:
    """A meta-update with Adam; options as `truncated_bptt` takes them."""
    options = {"unroll_length": 20} | options

    def make():
        share = devices // math.gcd(devices, num_tasks)
        estimator = estimators.truncated_bptt(
            make_task(),
            optimizer,
            num_tasks=num_tasks,
            episode_length=EPISODE,
            mesh=task_mesh(num_tasks, devices, coordinate_devices=share),
            **options,
        )
        adam = optax.adam(1e-3)
        state = init_state(
            estimator, adam, optimizer.init(jax.random.key(0)), key=jax.random.key(1)
        )
        program, report = compiled(meta_step, estimator, adam, state)
        return lambda state: program(estimator, state)[0], state, report

    params = jax.eval_shape(make_task().init, _an_instance(make_task()), jax.random.key(0))
    return Work(
        make=make,
        coordinates=num_tasks * sum(leaf.size for leaf in jax.tree.leaves(params)),
        inner_steps=options["unroll_length"],
        share=options.get("coordinate_share", 1.0),
    )


def with_automatic_cell(work: Work) -> Work:
    """`work` with the LSTM cell as JAX differentiates it by itself, for the rest of the process."""

    def make():
        networks.lstm_cell = _plain_cell
        return work.make()

    return dataclasses.replace(work, make=make)


def _plain_cell(gates: jax.Array, cell: jax.Array) -> tuple[jax.Array, jax.Array]:
    i, f, z, o = jnp.split(gates, 4)
    cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(z)
    return jax.nn.sigmoid(o) * jnp.tanh(cell), cell


def _an_instance(task: Task) -> Any:
    return jax.eval_shape(task.sample, task.data, jax.random.key(0))


def plain_update(make: Callable[[], tuple[Callable[[Any], Any], Any]]) -> Work:
    """One update in place of the parameters that come first in the state that `make` gives."""

    def measure():
        step, state = make()
        program, report = compiled(jax.jit(step, donate_argnums=0), state)
        params, opt_state = state
        state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(opt_state))
        coordinates = sum(leaf.size for leaf in jax.tree.leaves(params))
        report["state_bytes_per_parameter"] = round(state_bytes / coordinates, 1)
        return program, state, report

    params, _ = jax.eval_shape(lambda: make()[1])
    coordinates = sum(leaf.size for leaf in jax.tree.leaves(params))
    return Work(make=measure, coordinates=coordinates, inner_steps=1, share=None)


def _lstm(**options: Any) -> LearnedOptimizer:
    return optimizers.lstm(**options)


def _quadratics() -> Task:
    return tasks.quadratic(10)


def _mnist() -> Task:
    return tasks.mlp(images_like((28, 28, 1)), hidden_sizes=(20,))


def _convnet() -> Task:
    return tasks.convnet(images_like((32, 32, 3), 2_560))


def _two_lstms() -> LearnedOptimizer:
    return optimizers.partition({"conv": _lstm(), "fc": _lstm()}, optimizers.conv_fc_labels)


_PLAIN = {"preprocess": identity()}
_LAST = lstm_hidden_last()

WORKS: dict[str, dict[str, Callable[[], Work]]] = {
    "quadratics": {
        "recorded": lambda: dataclasses.replace(
            meta_update(_quadratics, _lstm(**_PLAIN), 128), features=1
        ),
        "recorded, 2 devices": lambda: dataclasses.replace(
            meta_update(_quadratics, _lstm(**_PLAIN), 128, devices=2), features=1
        ),
        "scan": lambda: dataclasses.replace(
            meta_update(_quadratics, _lstm(**_PLAIN), 128, backward="scan"), features=1
        ),
    },
    "mnist": {
        "recorded": lambda: meta_update(_mnist, _lstm(), 1),
        "recorded, 2 devices": lambda: meta_update(_mnist, _lstm(), 1, devices=2),
        "recorded, share 1/4": lambda: meta_update(_mnist, _lstm(), 1, coordinate_share=0.25),
        "recorded, share 1/8": lambda: meta_update(_mnist, _lstm(), 1, coordinate_share=0.125),
        "recorded, share 1/8, 2 devices": lambda: meta_update(
            _mnist, _lstm(), 1, coordinate_share=0.125, devices=2
        ),
        "recorded, states only, 2 devices": lambda: meta_update(
            _mnist, _lstm(), 1, devices=2, remat="step"
        ),
        "recorded, automatic cell, 2 devices": lambda: with_automatic_cell(
            meta_update(_mnist, _lstm(), 1, devices=2)
        ),
        "recorded, automatic cell, states only, 2 devices": lambda: with_automatic_cell(
            meta_update(_mnist, _lstm(), 1, devices=2, remat="step")
        ),
        "recorded, one chunk": lambda: meta_update(_mnist, _lstm(), 1, chunk_size=10**6),
        "scan": lambda: meta_update(_mnist, _lstm(), 1, backward="scan"),
        "scan, nested": lambda: meta_update(_mnist, _lstm(), 1, backward="scan", remat="nested"),
        "scan, no remat": lambda: meta_update(_mnist, _lstm(), 1, backward="scan", remat="none"),
        "scan, hidden last": lambda: meta_update(_mnist, _LAST, 1, backward="scan"),
    },
    "mnist-100": {
        "recorded": lambda: meta_update(_mnist, _lstm(), 1, unroll_length=100),
        "recorded, 2 devices": lambda: meta_update(
            _mnist, _lstm(), 1, unroll_length=100, devices=2
        ),
        "recorded, nested, 2 devices": lambda: meta_update(
            _mnist, _lstm(), 1, unroll_length=100, devices=2, remat="nested"
        ),
        "recorded, share 1/8": lambda: meta_update(
            _mnist, _lstm(), 1, unroll_length=100, coordinate_share=0.125
        ),
        "recorded, share 1/8, 2 devices": lambda: meta_update(
            _mnist, _lstm(), 1, unroll_length=100, coordinate_share=0.125, devices=2
        ),
        "scan": lambda: meta_update(_mnist, _lstm(), 1, unroll_length=100, backward="scan"),
    },
    "mnist-8-tasks": {
        "recorded": lambda: meta_update(_mnist, _lstm(), 8),
        "recorded, 2 devices": lambda: meta_update(_mnist, _lstm(), 8, devices=2),
        "recorded, share 1/8": lambda: meta_update(_mnist, _lstm(), 8, coordinate_share=0.125),
    },
    "convnet": {
        "recorded, share 1/8": lambda: meta_update(
            _convnet, _two_lstms(), 1, coordinate_share=0.125
        ),
        "recorded": lambda: meta_update(_convnet, _two_lstms(), 1),
    },
    **use.works(plain_update),
    **evolve.works(Work, compiled, images_like),
}
"""Work -> variant -> what to measure. The first variant of a meta-update is the default."""
