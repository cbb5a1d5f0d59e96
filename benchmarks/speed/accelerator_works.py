"""What `accelerator.py` measures: works of `works.py`, the same with the kernel, and layers alone.

Each is a function () -> (step, state, report) that compiles, as `works.Work.make` is.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import use
import works

from l2ljax.optimizers import lstm, tiles
from l2ljax.optimizers.fused_layer import fused_layer
from l2ljax.optimizers.networks import lstm_cell
from l2ljax.optimizers.preprocess import identity

LAYERS = {"first layer": (2, 20), "second layer": (20, 20)}
"""Inputs and units."""

TILINGS = {
    f"{block} x {warps} warps": tiles.Tiling(block=block, warps=warps)
    for block, warps in ((128, 8), (128, 4), (64, 4), (64, 8), (256, 8))
}


@dataclasses.dataclass(frozen=True)
class Job:
    """One row: the work and variant that it is, and how to make it."""

    work: str
    variant: str
    make: Callable[[], Any]
    uses_kernel: bool


def jobs(kernel: str, tilings: list[str], coordinates: tuple[int, ...]) -> list[Job]:
    """The most telling first, as time may run out.

    Args:
        kernel: "pallas", or "interpreted" where there is no accelerator.
        tilings: names in `TILINGS` to try the layers alone with; the first where they are small.
        coordinates: of layers alone.
    """
    found = [
        *(_of("mnist", name, work) for name, work in _mnist(kernel).items()),
        *(_of("use-10M-matrix", name, work) for name, work in _updates(kernel).items()),
        *(_of("mnist-8-tasks", name, work) for name, work in _eight(kernel).items()),
        *(_of("quadratics", name, work) for name, work in _quadratics(kernel).items()),
        *(_of("pes", name, works.WORKS["pes"][name]) for name in ("small_fc",)),
        *(_of("pes-adam", name, works.WORKS["pes-adam"][name]) for name in ("learned adam",)),
    ]
    for number in coordinates:
        for layer, sizes in LAYERS.items():
            for direction in ("forward", "VJP"):
                work = f"{layer}, {direction}, {number:,} coordinates"
                make = layer_maker(sizes, number, direction, None, kernel)
                found.append(Job(work, "plain", make, False))
                for tiling in tilings if number == max(coordinates) else tilings[:1]:
                    make = layer_maker(sizes, number, direction, TILINGS[tiling], kernel)
                    found.append(Job(work, f"{kernel}, {tiling}", make, True))
    return found


def _of(name: str, variant: str, work: Callable[[], works.Work]) -> Job:
    return Job(name, variant, lambda: work().make(), variant.endswith(("pallas", "interpreted")))


def _mnist(kernel: str) -> dict[str, Callable[[], works.Work]]:
    def with_kernel(**options: Any) -> Callable[[], works.Work]:
        return lambda: works.meta_update(works._mnist, lstm(kernel=kernel), 1, **options)  # pyright: ignore

    there = works.WORKS["mnist"]
    plain = ("recorded", "recorded, one chunk", "recorded, share 1/8", "scan", "scan, no remat")
    return {name: there[name] for name in plain} | {
        f"recorded, {kernel}": with_kernel(),
        f"recorded, one chunk, {kernel}": with_kernel(chunk_size=10**6),
        f"recorded, share 1/8, {kernel}": with_kernel(coordinate_share=0.125),
        f"scan, {kernel}": with_kernel(backward="scan"),
    }


def _eight(kernel: str) -> dict[str, Callable[[], works.Work]]:
    def eight(kernel: str, **options: Any) -> Callable[[], works.Work]:
        return lambda: works.meta_update(works._mnist, lstm(kernel=kernel), 8, **options)  # pyright: ignore

    return {
        "recorded": eight("plain"),
        "recorded, one chunk": eight("plain", chunk_size=10**6),
        f"recorded, {kernel}": eight(kernel),
        f"recorded, one chunk, {kernel}": eight(kernel, chunk_size=10**6),
        "recorded, share 1/8": eight("plain", coordinate_share=0.125),
    }


def _quadratics(kernel: str) -> dict[str, Callable[[], works.Work]]:
    def of(backward: str, kernel: str) -> Callable[[], works.Work]:
        optimizer = lstm(preprocess=identity(), kernel=kernel)  # pyright: ignore
        return lambda: works.meta_update(works._quadratics, optimizer, 128, backward=backward)

    return {
        "recorded": of("recorded", "plain"),
        "scan": of("scan", "plain"),
        f"recorded, {kernel}": of("recorded", kernel),
        f"scan, {kernel}": of("scan", kernel),
    }


def _updates(kernel: str) -> dict[str, Callable[[], works.Work]]:
    def with_options(**options: Any) -> Callable[[], works.Work]:
        def make():
            optimizer = lstm(**options)
            tx = optimizer.transform(optimizer.init(jax.random.key(0)))
            return use.step_of(tx, use.make_params("10M-matrix"))

        return lambda: works.plain_update(make)

    variants = {
        "lstm, one block": with_options(block_size=None),
        f"lstm, {kernel}": with_options(kernel=kernel),
        f"lstm, one block, {kernel}": with_options(kernel=kernel, block_size=None),
    }
    bundled = works.WORKS["use-10M-matrix"]
    first = {name: bundled[name] for name in ("adam", "lstm")}
    return first | variants | {name: work for name, work in bundled.items() if name not in first}


def layer_maker(
    sizes: tuple[int, int], number: int, direction: str, tiling: Any, kernel: str
) -> Callable[[], Any]:
    """A layer's step, or its VJP; `tiling` is `None` for the plain formula.

    The state that a step hands on is its own arguments, so that every step is the same.
    """

    def plain(weights, inputs, hidden, cell):
        rows = jnp.concatenate([inputs, hidden, jnp.ones_like(inputs[:1])])
        return lstm_cell(jnp.tensordot(weights, rows, axes=1), cell)

    def fused(*arrays):
        return fused_layer(*arrays, interpret=kernel == "interpreted", tiling=tiling)

    layer = plain if tiling is None else fused

    def forward(arrays):
        return layer(*arrays[:4])

    def backward(arrays):
        return jax.vjp(layer, *arrays[:4])[1](tuple(arrays[4:]))

    def make():
        arrays = layer_arrays(*sizes, number)
        function = forward if direction == "forward" else backward
        program, report = works.compiled(jax.jit(function), arrays)

        def step(arrays):
            program(arrays)  # queued, and awaited in order with what follows
            return arrays

        step.output = program  # pyright: ignore
        return step, arrays, report

    return make


def layer_arrays(inputs: int, units: int, number: int) -> tuple[jax.Array, ...]:
    """Weights, inputs, hidden, cell and two cotangents, of order one."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4 * units, inputs + units + 1)) / np.sqrt(inputs + units)
    keys = jax.random.split(jax.random.key(0), 5)
    rows = (inputs, units, units, units, units)
    columns = [
        jax.random.normal(key, (n, number), jnp.float32) for key, n in zip(keys, rows, strict=True)
    ]
    return (jnp.asarray(weights, jnp.float32), *columns)


def deviations(kernel: str, number: int = 3001) -> dict[str, float]:
    """Largest errors relative to the largest value, against the plain formula in full float32.

    Of the kernel, and of what the plain formula gives by default, beside it.
    """
    found = {}
    for layer, sizes in LAYERS.items():
        for direction in ("forward", "VJP"):

            def results(tiling, precision=None, sizes=sizes, direction=direction):
                maker = layer_maker(sizes, number, direction, tiling, kernel)
                if precision is None:
                    step, arrays, _ = maker()
                else:
                    with jax.default_matmul_precision(precision):
                        step, arrays, _ = maker()
                return step.output(arrays)

            exact = results(None, "highest")
            rows = {
                "plain": results(None),
                kernel: results(tiles.TILINGS["cuda"]),
                f"{kernel}, highest": results(tiles.TILINGS["cuda"], "highest"),
            }
            for name, ours in rows.items():
                pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(exact), strict=True)
                found[f"{layer}, {direction}, {name}"] = max(
                    float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in pairs
                )
    return found
