"""Programs for accelerators, lowered on this CPU: what a GPU or TPU would be given.

`jax.export` lowers for platforms that are not there. The programs must need no host, compute
nothing in float64, and take the data set as an argument: their size does not grow with it.
"""

import re

import jax
import jax.numpy as jnp
import optax
import pytest

from l2ljax import Task, init_optimizee, lstm, truncated_bptt, unroll
from l2ljax.tasks import mlp
from l2ljax.training.step import init_state, meta_step

PLATFORMS = ("cuda", "tpu")
LARGEST_MODULE = 2**20
"""Bytes of text; a data set of 64 x 64 floats among them would be four times as much."""

HOST = r"callback|xla_ffi_python|xla_python_cpu"
"""Custom calls back into Python."""

OPTIMIZER = lstm((4, 4))


def digits(rows: int) -> Task:
    """An MLP on `rows` random images, the same program whatever their number."""
    images = jax.random.uniform(jax.random.key(0), (rows, 8, 8, 1))
    return mlp((images, jnp.arange(rows) % 10), (6,), batch_size=16)


def lowered(function, *arguments, platform):
    """The program's text."""
    return jax.export.export(jax.jit(function), platforms=[platform])(*arguments).mlir_module()


def meta_update(backward, rows=4096):
    estimator = truncated_bptt(
        digits(rows), OPTIMIZER, num_tasks=2, episode_length=10, unroll_length=5, backward=backward
    )
    meta_optimizer = optax.adam(1e-3)
    state = init_state(
        estimator, meta_optimizer, OPTIMIZER.init(jax.random.key(0)), jax.random.key(1)
    )
    # Random keys cannot be exported: they enter and leave as their numbers.
    key_data = jax.random.key_data(state.key)

    def step(estimator, rest, key_data):
        state = rest._replace(key=jax.random.wrap_key_data(key_data))
        state, metrics = meta_step(estimator, meta_optimizer, state)
        return state._replace(key=jax.random.key_data(state.key)), metrics["meta_loss"]

    return step, (estimator, state._replace(key=key_data), key_data)


def evaluation(rows=4096):
    def losses(task, meta_params, key_data):
        key = jax.random.wrap_key_data(key_data)
        tx = OPTIMIZER.transform(meta_params)
        return unroll(task, tx, init_optimizee(task, tx, key), key, 5)[1]

    key_data = jax.random.key_data(jax.random.key(0))
    return losses, (digits(rows), OPTIMIZER.init(jax.random.key(0)), key_data)


def update():
    tx = OPTIMIZER.transform(OPTIMIZER.init(jax.random.key(0)))
    params = {"w": jnp.ones((64, 64)), "b": jnp.ones(64)}
    return tx.update, (params, tx.init(params))


def update_in_blocks():
    """Of a matrix of four million numbers, which is more than one block on every platform."""
    tx = OPTIMIZER.transform(OPTIMIZER.init(jax.random.key(0)))
    params = jax.ShapeDtypeStruct((4096, 1024), jnp.float32)
    return tx.update, (params, jax.eval_shape(tx.init, params))


PROGRAMS = {
    "recorded": lambda **options: meta_update("recorded", **options),
    "scan": lambda **options: meta_update("scan", **options),
    "evaluation": evaluation,
    "update": update,
    "update in blocks": update_in_blocks,
}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("name", list(PROGRAMS))
def test_programs_lower_for_accelerators(name, platform, monkeypatch):
    """With the chunks and blocks that are chosen where such a device is the default."""
    monkeypatch.setattr(jax, "default_backend", lambda: {"cuda": "gpu"}.get(platform, platform))
    function, arguments = PROGRAMS[name]()
    text = lowered(function, *arguments, platform=platform)
    assert len(text) < LARGEST_MODULE
    assert "f64" not in text
    assert not re.search(HOST, text)


def test_what_needs_the_host_is_noticed():
    """The words that are searched for are those of a callback's program."""

    def on_the_host(x):
        return jax.pure_callback(lambda x: x, x, x)

    traced = jax.jit(on_the_host).lower(jnp.ones(3)).as_text()
    assert re.search(HOST, traced)


@pytest.mark.parametrize("name", ["recorded", "scan", "evaluation"])
def test_programs_do_not_grow_with_the_data(name):
    """A hundred times as many images change nothing but the shape of an argument."""
    texts = []
    for rows in (200, 20_000):
        function, arguments = PROGRAMS[name](rows=rows)
        texts.append(lowered(function, *arguments, platform="cuda"))
    assert abs(len(texts[0]) - len(texts[1])) < 2_000
