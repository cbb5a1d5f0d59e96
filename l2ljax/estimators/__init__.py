"""Estimators of the meta-gradient: one file each, and one line each in `BUILDERS`."""

from collections.abc import Callable

from l2ljax.base import GradientEstimator
from l2ljax.estimators._truncated_bptt import truncated_bptt

BUILDERS: dict[str, Callable[..., GradientEstimator]] = {
    "truncated_bptt": truncated_bptt,
}
"""Name in configs -> builder. A new estimator adds its line here."""

__all__ = ["BUILDERS", "truncated_bptt"]
