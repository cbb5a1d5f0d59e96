"""How fast a machine adapts, measured, and what of it fits into the time that is given."""

import math
import time
from typing import NamedTuple

import jax
import optax

from l2ljax.base import GradientEstimator, Key, MetaParams
from l2ljax.training.faults import DEFAULT_LIMITS
from l2ljax.training.step import init_state, meta_step, validate
from l2ljax.training.validation import Validation

VALIDATIONS = 25
"""Of a run, at most; and at most a fifth of its time."""
FEWEST_UPDATES = 10
MARGIN = 0.9
"""Share of the time left that meta-updates are planned for: machines have other things to do."""


class Clock:
    """Counts a budget down from when it is made.

    Example:
        >>> clock = Clock(minutes=1)
        >>> 59 < clock.left <= 60
        True
    """

    def __init__(self, minutes: float):
        self.began = time.perf_counter()
        self.budget = 60.0 * minutes

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.perf_counter() - self.began

    @property
    def left(self) -> float:
        """Seconds until the budget is spent; negative after."""
        return self.budget - self.seconds


class Pace(NamedTuple):
    """Seconds: until the first meta-update is made, of each further one, of a validation; and the
    validation loss of the weights to start from."""

    first: float
    update: float
    validation: float
    start_score: float


def measure(
    estimator: GradientEstimator,
    meta_optimizer: optax.GradientTransformation,
    meta_params: MetaParams,
    validation: Validation,
    key: Key,
    num_updates: int = 3,
) -> Pace:
    """Scores the weights to start from and makes a few meta-updates, which are forgotten."""
    clock = Clock(0)
    state = jax.block_until_ready(init_state(estimator, meta_optimizer, meta_params, key))
    start_score = float(validate(validation, state)[1])
    state = init_state(estimator, meta_optimizer, meta_params, key)
    begin = clock.seconds
    jax.block_until_ready(validate(validation, state))
    scored = clock.seconds
    state = init_state(estimator, meta_optimizer, meta_params, key)
    state, _ = jax.block_until_ready(meta_step(estimator, meta_optimizer, state, DEFAULT_LIMITS))
    made = clock.seconds
    for _ in range(num_updates):
        state, _ = meta_step(estimator, meta_optimizer, state, DEFAULT_LIMITS)
    jax.block_until_ready(state)
    update = (clock.seconds - made) / num_updates
    return Pace(max(made - scored, update), update, scored - begin, start_score)


class Plan(NamedTuple):
    """Meta-updates in all, between validations and between records."""

    num_meta_updates: int
    validate_every: int
    log_every: int


def plan(pace: Pace, seconds: float, num_meta_updates: int | None = None) -> Plan:
    """What fits into `seconds`, compilation included; or a given number of meta-updates.

    Example:
        >>> plan(Pace(first=2.0, update=0.1, validation=0.2, start_score=1.0), 102.0)
        Plan(num_meta_updates=850, validate_every=34, log_every=5)
        >>> plan(Pace(first=2.0, update=0.1, validation=0.2, start_score=1.0), 1.0).num_meta_updates
        0
    """
    spare = max(0.0, MARGIN * (seconds - pace.first))
    validations = VALIDATIONS
    if num_meta_updates is None:
        affordable = int(spare / 5 / max(pace.validation, 1e-6))
        validations = max(1, min(VALIDATIONS, affordable))
        left = max(0.0, spare - validations * pace.validation)
        num_meta_updates = int(left / max(pace.update, 1e-6))
    every = max(1, math.ceil(num_meta_updates / validations))
    return Plan(num_meta_updates, every, max(1, round(0.5 / max(pace.update, 1e-6))))
