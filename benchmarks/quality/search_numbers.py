"""The numbers that `search_rule.py` searches, and the rule that they make.

The rule is `nominal` without a hidden layer: its outputs are linear in a tensor's statistics
(`l2ljax.optimizers.nominal_statistics`). Each number has a start and a unit in which the search
takes its steps; statistics are taken from their usual value on, so that a coefficient can change
without all steps becoming longer or shorter.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from l2ljax.base import LearnedOptimizer, MetaParams
from l2ljax.optimizers import nominal

DIRECTIONS = ("orthogonal", "orthogonal_adam")
OUTPUTS = (
    *("size", "drift", "m 0.5", "m 0.9", "m 0.99", "gradient"),
    *DIRECTIONS,
    *("put off", "window"),
)
"""Of the network, in its order."""


class Statistic(NamedTuple):
    """Columns of the table and their factors, the usual value and how far it strays, by hand."""

    columns: dict[int, float]
    usual: float
    spread: float


STATISTICS = {
    "power of m 0.9": Statistic({1: 1}, -0.4, 0.25),
    "power of m 0.99": Statistic({2: 1}, -0.6, 0.35),
    "agreement with m 0.9": Statistic({5: 1}, 0.4, 0.2),
    "agreement with m 0.99": Statistic({6: 1}, 0.2, 0.2),
    "fan-in": Statistic({12: 1}, 0.7, 0.6),
    "matrix": Statistic({14: 1}, 0.5, 0.5),
    "after 100": Statistic({20: 1}, 0.8, 0.5),
    "log t": Statistic({18: 1}, 0.78, 0.2),
    "start of the tensor": Statistic({-2: 1}, -0.5, 0.4),
    "start of all": Statistic({-1: 1}, -0.6, 0.4),
    "growth of the tensor": Statistic({10: 1, -2: -1}, 0.2, 0.2),
    "growth of all": Statistic({11: 1, -1: -1}, 0.2, 0.2),
}
NUM_COLUMNS = 23
"""Of the table; the last two are of the first update."""

STEP = 0.043
"""Of a size before the tanh: a factor of 1.35 on the step, as the span is 7."""

FIRST = {"log t": -0.2, "start of all": 0.25}
"""What coefficients of the size are not 0 at the start: steps die down, by about the sixth root of
the time, and are larger where parameters were at the start, by about the root."""

LEFT_COLUMN, LEFT_USUAL = 23, -0.2
"""Of the logarithm of what is left, where the number of steps is told."""


class Number(NamedTuple):
    """A bias (`statistic` is None) or a coefficient of one output."""

    output: str
    statistic: str | None
    start: float
    unit: float


NUMBERS = [
    Number("size", None, 0.38, 2 * STEP),
    *(
        Number("size", name, FIRST.get(name, 0.0), STEP / statistic.spread)
        for name, statistic in STATISTICS.items()
    ),
    Number("drift", None, 0.0, 0.03),
    Number("drift", "agreement with m 0.9", 0.0, 0.5),
    Number("drift", "agreement with m 0.99", 0.0, 0.5),
    Number("m 0.9", None, 3.0, 0.7),
    Number("m 0.99", None, 0.0, 0.7),
    Number("gradient", None, 0.0, 0.7),
    Number("m 0.99", "after 100", 0.0, 0.7),
    Number("orthogonal", None, 2.0, 0.6),
    Number("orthogonal_adam", None, 2.0, 0.6),
    Number("orthogonal_adam", "power of m 0.99", 0.0, 2.0),
    Number("orthogonal_adam", "after 100", 0.0, 0.8),
    Number("put off", None, 0.0, 1.0),
    Number("put off", "power of m 0.99", 0.0, 2.0),
    Number("put off", "after 100", 0.0, 0.8),
    Number("window", None, 1.5, 0.7),
]
"""What is searched, in order."""

TOLD = [
    Number("size", "left", 0.4, 0.17),
    Number("drift", "left", 0.0, 0.12),
    Number("m 0.99", "left", 0.0, 2.8),
    Number("put off", "left", 0.0, 4.0),
]
"""Behind them, where the number of steps is told: coefficients of what is left (`LEFT_COLUMN`)."""

EARLY_COLUMNS = {"before 10": 19, "before 100": 20}
"""The statistic that tells steps before and after so many apart, tanh(log(t / 10)) and so on."""

EARLY = [
    Number(output, name, 0.0, unit)
    for name in EARLY_COLUMNS
    for output, unit in {
        "size": 2 * STEP,
        "drift": 0.3,
        **dict.fromkeys(("m 0.9", "m 0.99", "gradient", *DIRECTIONS), 1.0),
        "put off": 1.0,
    }.items()
]
"""What weights can be given for the beginning alone: a number times 1 / (1 + (t / 100)^2), or 10.
(The window is left as it is, as the bound on a step asks for one that does not change.)"""

ALONE_COLUMN = 13
"""The statistic that is 1 of a picture, and 0 of all tensors of networks."""

AXES_COLUMN = 15
"""The statistic that is 1 of kernels of convolutions, heads and pictures, and 0 of all others."""

AXES = [Number(n.output, "more than two axes", 0.0, n.unit) for n in EARLY[: len(EARLY) // 2]]
"""What weights can be given for those tensors alone, or for pictures alone."""

REST_AFTER = 4000
"""The longest run of the first set of trials, which says nothing of what is right beyond."""


def rule(
    num_steps: int | None = None, rest_after: int | None = None, **options: Any
) -> LearnedOptimizer:
    """The rule; told the number of steps where one is given, with further options of `nominal`.

    Unless `rest_after` is given, it rests after `REST_AFTER` steps, and never where it is told.
    """
    if rest_after is None and num_steps is None:
        rest_after = REST_AFTER
    always = {"directions": DIRECTIONS, "averaged": True, "from_start": True}
    return nominal((), num_steps, rest_after, **always, **options)


def weights_at(x: Sequence[float] | np.ndarray) -> MetaParams:
    """Meta-parameters for the numbers `x`, in units from their start on, of `TOLD` or without."""
    x, last = np.split(np.asarray(x), [len(NUMBERS)])
    if last.size:
        moved = zip(TOLD, last, strict=True)
        return told(weights_at(x), {n.output: n.start + n.unit * float(by) for n, by in moved})
    kernel, bias = np.zeros((NUM_COLUMNS, len(OUTPUTS))), np.zeros(len(OUTPUTS))
    for number, moved in zip(NUMBERS, x, strict=True):
        output, value = OUTPUTS.index(number.output), number.start + number.unit * moved
        if number.statistic is None:
            bias[output] += value
        else:
            statistic = STATISTICS[number.statistic]
            for column, factor in statistic.columns.items():
                kernel[column, output] += factor * value
            bias[output] -= value * statistic.usual
    layer = {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}
    return {"layers": [layer]}


def is_told(meta_params: MetaParams) -> bool:
    """Whether they are of a rule that is told the number of steps."""
    return len(meta_params["layers"][0]["kernel"]) > NUM_COLUMNS


def numbers_at(meta_params: MetaParams) -> np.ndarray:
    """The numbers whose weights are nearest to these: `weights_at` is linear in them."""

    def flat(meta_params: MetaParams) -> np.ndarray:
        (layer,) = meta_params["layers"]
        return np.concatenate([np.ravel(layer[name]) for name in ("kernel", "bias")])

    size = len(NUMBERS) + len(TOLD) * is_told(meta_params)
    zero = flat(weights_at(np.zeros(size)))
    columns = [flat(weights_at(row)) - zero for row in np.eye(size)]
    return np.linalg.lstsq(np.stack(columns, axis=1), flat(meta_params) - zero)[0]


def told(meta_params: MetaParams, left: Mapping[str, float]) -> MetaParams:
    """Meta-parameters with the columns of a known horizon, of which one is used.

    Args:
        meta_params: of a rule that is told nothing.
        left: output -> coefficient of the logarithm of what is left.
    """
    (layer,) = meta_params["layers"]
    begun = NUM_COLUMNS - 2
    coefficients = jnp.zeros(len(OUTPUTS))
    for output, value in left.items():
        coefficients = coefficients.at[OUTPUTS.index(output)].set(value)
    horizon = jnp.zeros((3, len(OUTPUTS))).at[LEFT_COLUMN - begun].set(coefficients)
    kernel = jnp.concatenate([layer["kernel"][:begun], horizon, layer["kernel"][begun:]])
    return {"layers": [{"kernel": kernel, "bias": layer["bias"] - LEFT_USUAL * coefficients}]}


def with_early(meta_params: MetaParams, x: Sequence[float] | np.ndarray) -> MetaParams:
    """Meta-parameters that differ from these by the numbers `x` of `EARLY`, in their units.

    1 / (1 + (t / 100)^2) is (1 - tanh(log(t / 100))) / 2, linear in what the rule is told.
    """
    (layer,) = meta_params["layers"]
    kernel, bias = np.zeros(layer["kernel"].shape), np.zeros(len(OUTPUTS))
    for number, moved in zip(EARLY, x, strict=True):
        output, value = OUTPUTS.index(number.output), number.start + number.unit * moved
        column = EARLY_COLUMNS[str(number.statistic)]
        kernel[column, output] -= value / 2
        bias[output] += value / 2
    moved = {"kernel": layer["kernel"] + kernel, "bias": layer["bias"] + bias}
    return {"layers": [{name: jnp.asarray(each, jnp.float32) for name, each in moved.items()}]}


def with_axes(
    meta_params: MetaParams, x: Sequence[float] | np.ndarray, column: int = AXES_COLUMN
) -> MetaParams:
    """Meta-parameters that differ from these by the numbers `x` of `AXES`, in their units.

    Args:
        meta_params: of the rule, one layer.
        x: `[8]`, numbers in their units.
        column: of the statistic that they belong to, `ALONE_COLUMN` for pictures alone.
    """
    (layer,) = meta_params["layers"]
    by = np.zeros(len(OUTPUTS))
    for number, moved in zip(AXES, x, strict=True):
        by[OUTPUTS.index(number.output)] += number.start + number.unit * moved
    kernel = layer["kernel"].at[column].add(jnp.asarray(by, jnp.float32))
    return {"layers": [{"kernel": kernel, "bias": layer["bias"]}]}


def moved(meta_params: MetaParams, x: Sequence[float] | np.ndarray) -> MetaParams:
    """Meta-parameters that differ from these by the numbers `x` of `NUMBERS`, then of `EARLY`.

    Those of `TOLD` stand between them for weights that are told the number of steps.
    """
    size = len(NUMBERS) + len(TOLD) * is_told(meta_params)
    own, early = np.split(np.asarray(x), [size])
    there, zero = weights_at(own), weights_at(np.zeros(size))
    changed = jax.tree.map(lambda leaf, to, of: leaf + to - of, meta_params, there, zero)
    return with_early(changed, early)


def placed(x: Sequence[float] | np.ndarray, outputs: Sequence[str], told: bool) -> np.ndarray:
    """What `moved` takes where the numbers of these outputs in `NUMBERS` are `x`, all others 0."""
    full = np.zeros(len(NUMBERS) + len(TOLD) * told + len(EARLY))
    full[indices(outputs)] = x
    return full


def indices(outputs: Sequence[str]) -> list[int]:
    """Of the numbers of these outputs in `NUMBERS`.

    Raises:
        ValueError: for an output that has none.
    """
    if unknown := set(outputs) - {number.output for number in NUMBERS}:
        known = list(dict.fromkeys(number.output for number in NUMBERS))
        raise ValueError(f"The rule has no numbers of {sorted(unknown)}, but of {known}.")
    return [i for i, number in enumerate(NUMBERS) if number.output in outputs]
