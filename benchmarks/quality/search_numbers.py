"""The numbers that `search_rule.py` searches, and the rule that they make.

The rule is `nominal((), directions=("orthogonal",))`: its outputs are linear in a tensor's
statistics (`l2ljax.optimizers.nominal_statistics`). Each number has a start and a unit in which the
search takes its steps; statistics are taken from their usual value on, so that a coefficient can
change without all steps becoming longer or shorter.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from l2ljax.base import LearnedOptimizer, MetaParams
from l2ljax.optimizers import nominal

DIRECTIONS = ("orthogonal",)
OUTPUTS = ("size", "drift", "m 0.5", "m 0.9", "m 0.99", "gradient", "orthogonal")
"""Of the network, in its order."""


class Statistic(NamedTuple):
    """A column of the table, its usual value and how far it strays, by hand."""

    column: int
    usual: float
    spread: float


STATISTICS = {
    "power of m 0.9": Statistic(1, -0.4, 0.25),
    "power of m 0.99": Statistic(2, -0.6, 0.35),
    "agreement with m 0.9": Statistic(5, 0.4, 0.2),
    "agreement with m 0.99": Statistic(6, 0.2, 0.2),
    "rms of the tensor": Statistic(10, -0.5, 0.4),
    "rms of all": Statistic(11, -0.5, 0.4),
    "fan-in": Statistic(12, 0.7, 0.6),
    "matrix": Statistic(14, 0.5, 0.5),
    "log t": Statistic(18, 0.78, 0.2),
    "after 100": Statistic(20, 0.8, 0.5),
    "done": Statistic(21, 0.5, 0.3),
    "last fifth": Statistic(22, -0.5, 0.8),
    "log left": Statistic(23, -0.2, 0.2),
}
NUM_COLUMNS = {False: 21, True: 24}
"""Of the table, by whether the number of steps is told."""

STEP = 0.043
"""Of a size before the tanh: a factor of 1.35 on the step, as the span is 7."""

FIRST = {"log left": 0.45, "log t": -0.4, "rms of all": 0.2}
"""What coefficients of the size are not 0 at the start: steps die down, by about the third root of
the time (the sixth, and towards the end, where that is told), and grow with the root of the
parameters' size."""


LEFT = 0.25
"""Coefficient of "log left" in `told_from`: (1.02 - t / T) ** 0.44."""


class Number(NamedTuple):
    """A bias (`statistic` is None) or a coefficient of one output."""

    output: str
    statistic: str | None
    start: float
    unit: float


def numbers(told: bool) -> list[Number]:
    """What is searched, in order."""
    of_size = ["power of m 0.9", "power of m 0.99", "agreement with m 0.9"]
    of_size += ["agreement with m 0.99", "rms of the tensor", "fan-in", "matrix", "after 100"]
    of_size += ["done", "last fifth", "log left"] * told + ["log t", "rms of all"]
    first = FIRST | ({"log t": -0.2} if told else {})
    found = [Number("size", None, 0.26 if told else 0.2, 2 * STEP)]
    found += [Number("size", s, first.get(s, 0.0), STEP / STATISTICS[s].spread) for s in of_size]
    found += [
        Number("drift", None, 0.0, 0.03),
        Number("drift", "agreement with m 0.9", 0.0, 0.5),
        Number("drift", "agreement with m 0.99", 0.0, 0.5),
        Number("m 0.9", None, 3.0, 0.7),
        Number("m 0.99", None, 0.0, 0.7),
        Number("gradient", None, 0.0, 0.7),
        Number("m 0.99", "after 100", 0.0, 0.7),
        Number("orthogonal", None, 2.5, 0.6),
    ]
    return found + [Number("m 0.99", "done", 0.0, 1.0)] * told


def told_from(untold: Sequence[float] | np.ndarray) -> np.ndarray:
    """A rule that is told the number of steps, in its own units, made of one that is not.

    It has all of the other's numbers, and steps that die down with the root of what is left.
    """
    known: dict[tuple[str, str | None], float] = {("size", "log left"): LEFT}
    for number, moved in zip(numbers(False), untold, strict=True):
        known[number.output, number.statistic] = number.start + number.unit * moved
    return np.array(
        [(known.get((n.output, n.statistic), 0.0) - n.start) / n.unit for n in numbers(True)]
    )


def optimizer_for(told: bool, num_steps: int) -> LearnedOptimizer:
    """The rule, for so many steps."""
    return nominal((), num_steps=num_steps if told else None, directions=DIRECTIONS)


def weights_at(x: Sequence[float] | np.ndarray, told: bool) -> MetaParams:
    """Meta-parameters for the numbers `x`, in units from their start on."""
    kernel, bias = np.zeros((NUM_COLUMNS[told], len(OUTPUTS))), np.zeros(len(OUTPUTS))
    for number, moved in zip(numbers(told), x, strict=True):
        output, value = OUTPUTS.index(number.output), number.start + number.unit * moved
        if number.statistic is None:
            bias[output] += value
        else:
            statistic = STATISTICS[number.statistic]
            kernel[statistic.column, output] += value
            bias[output] -= value * statistic.usual
    layer = {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}
    return {"layers": [layer]}


def told(meta_params: MetaParams, left: float) -> MetaParams:
    """Meta-parameters with the columns of a known horizon, of which one is used."""
    (layer,) = meta_params["layers"]
    more = NUM_COLUMNS[True] - NUM_COLUMNS[False]
    kernel = jnp.pad(layer["kernel"], ((0, more), (0, 0)))
    statistic, size = STATISTICS["log left"], OUTPUTS.index("size")
    return {
        "layers": [
            {
                "kernel": kernel.at[statistic.column, size].set(left),
                "bias": layer["bias"].at[size].add(-left * statistic.usual),
            }
        ]
    }
