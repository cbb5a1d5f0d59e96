"""Positive numbers and shares as unconstrained meta-parameters: `log(1e-3)`, `logit(0.9)`.

A meta-optimizer makes additive steps; on log x and log(x / (1 - x)) they are relative ones, and no
step leaves the range.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from l2ljax.checks import check_choice, check_number, is_number, short
from l2ljax.specification import Specification

KINDS = ("plain", "log", "logit")


@dataclasses.dataclass(frozen=True)
class Parametrised:
    """A number, and the scale on which it is learned.

    Attributes:
        kind: "plain" (the number itself), "log" or "logit".
        value: where it starts.

    Example:
        >>> share = Parametrised("logit", 0.5)
        >>> share.raw, float(share.of(0.0))  # log(0.5 / (1 - 0.5)), and back
        (0.0, 0.5)
    """

    kind: str
    value: float

    @property
    def specification(self) -> Specification:
        """Plain data that rebuilds it, as weights files hold it."""
        return Specification({"name": self.kind, "value": self.value})

    @property
    def raw(self) -> float:
        """The number on its scale: what the meta-parameter starts at."""
        if self.kind == "log":
            return math.log(self.value)
        return (
            math.log(self.value) - math.log1p(-self.value) if self.kind == "logit" else self.value
        )

    def of(self, raw: jax.Array) -> jax.Array:
        """The number that a meta-parameter stands for."""
        return {"plain": jnp.asarray, "log": jnp.exp, "logit": _below_one}[self.kind](raw)


def _below_one(raw: jax.Array) -> jax.Array:
    """The sigmoid, which rounding would make 1 from about 17 on."""
    share = jax.nn.sigmoid(raw)
    largest = 1 - jnp.finfo(share.dtype).epsneg
    return jnp.where(share > largest, largest, share)


def log(value: float) -> Parametrised:
    """A positive number that is learned by its logarithm, for `l2ljax.hyperparameters`.

    Args:
        value: where it starts, above 0.

    Returns:
        the number and its scale; its meta-parameter is a float32 scalar.

    Raises:
        ValueError: unless `value` is a positive number.

    Example:
        >>> log(1e-3).specification
        {'name': 'log', 'value': 0.001}
    """
    check_number("value of log", value, above=0)
    return Parametrised("log", float(value))


def logit(value: float) -> Parametrised:
    """A number between 0 and 1 that is learned by log(x / (1 - x)), for `l2ljax.hyperparameters`.

    Args:
        value: where it starts, above 0 and below 1.

    Returns:
        the number and its scale; its meta-parameter is a float32 scalar.

    Raises:
        ValueError: unless 0 < `value` < 1.

    Example:
        >>> logit(0.5).raw
        0.0
    """
    if not is_number(value) or not 0 < value < 1:
        raise ValueError(f"value of logit must be a number between 0 and 1, got {short(value)}.")
    return Parametrised("logit", float(value))


def plain(value: float) -> Parametrised:
    """A number that is learned as it is: what a bare number is to `l2ljax.hyperparameters`.

    Args:
        value: where it starts.

    Returns:
        the number and its scale; its meta-parameter is a float32 scalar.

    Raises:
        ValueError: unless `value` is a finite number.

    Example:
        >>> plain(0.5).raw
        0.5
    """
    check_number("value of plain", value)
    return Parametrised("plain", float(value))


def as_parametrised(name: str, value: Any) -> Parametrised:
    """`value` if it is one, a plain number as it is, and one from its specification.

    Raises:
        ValueError: for anything else, naming `name`.
    """
    if isinstance(value, Parametrised):
        return value
    if is_number(value):
        return plain(value)
    if isinstance(value, Mapping) and set(value) == {"name", "value"}:
        check_choice(f"the scale of {name}", value["name"], KINDS)
        return {"log": log, "logit": logit, "plain": plain}[value["name"]](value["value"])
    raise ValueError(
        f"The hyperparameter {name} must be l2ljax.log(x), l2ljax.logit(x) or a number, "
        f"got {short(value)}."
    )
