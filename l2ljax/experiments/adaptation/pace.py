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
FEWEST_UPDATES, RECORDS = 10, 100
"""Meta-updates and records of a run, at least."""
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
    """Seconds of a meta-update and of a validation, both compiled, and the validation loss of the
    weights to start from."""

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
    """Scores the weights to start from and makes a few meta-updates, which are forgotten.

    What it compiles serves `meta_train` too, where the meta-optimizer is an equal one.
    """
    state = init_state(estimator, meta_optimizer, meta_params, key)
    state, start_score = jax.block_until_ready(validate(validation, state))
    clock = Clock(0)
    state, _ = jax.block_until_ready(validate(validation, state))
    scored = clock.seconds
    state, _ = jax.block_until_ready(meta_step(estimator, meta_optimizer, state, DEFAULT_LIMITS))
    clock = Clock(0)
    for _ in range(num_updates):
        state, _ = meta_step(estimator, meta_optimizer, state, DEFAULT_LIMITS)
    jax.block_until_ready(state)
    return Pace(clock.seconds / num_updates, scored, float(start_score))


class Plan(NamedTuple):
    """Meta-updates in all, between validations and between records."""

    num_meta_updates: int
    validate_every: int
    log_every: int


def plan(pace: Pace, seconds: float, num_meta_updates: int | None = None) -> Plan:
    """What fits into `seconds`, validations included; or a given number of meta-updates.

    Of a given number that does not fit, validations and records are spread over those that do.

    Example:
        >>> plan(Pace(update=0.1, validation=0.2, start_score=1.0), 100.0)
        Plan(num_meta_updates=850, validate_every=34, log_every=5)
        >>> plan(Pace(update=0.1, validation=0.2, start_score=1.0), 0.0).num_meta_updates
        0
        >>> plan(Pace(update=0.1, validation=0.2, start_score=1.0), 100.0, num_meta_updates=10_000)
        Plan(num_meta_updates=10000, validate_every=34, log_every=5)
    """
    spare = max(0.0, MARGIN * seconds)
    affordable = int(spare / 5 / max(pace.validation, 1e-6))
    validations = max(1, min(VALIDATIONS, affordable))
    left = max(0.0, spare - validations * pace.validation)
    fitting = int(left / max(pace.update, 1e-6))
    if num_meta_updates is None:
        num_meta_updates = fitting
    elif num_meta_updates <= fitting:
        validations = VALIDATIONS  # whatever the machine: the same weights are scored
    # More than fit are cut when the time is up: what was made until then must have been scored.
    made = min(num_meta_updates, max(1, fitting))
    every = max(1, math.ceil(made / validations))
    # A record is when the clock is looked at: twice a second, and were the pace another by then.
    records = min(round(0.5 / max(pace.update, 1e-6)), made // RECORDS)
    return Plan(num_meta_updates, every, max(1, records))
