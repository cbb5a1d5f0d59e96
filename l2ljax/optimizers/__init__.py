"""The learned optimizers: one file each, and one line each in `BUILDERS`."""

from collections.abc import Callable

from l2ljax.base import LearnedOptimizer
from l2ljax.optimizers.lstm import lstm
from l2ljax.optimizers.partition import partition

BUILDERS: dict[str, Callable[..., LearnedOptimizer]] = {
    "lstm": lstm,
}
"""Name in configs and weight files -> builder. A new learned optimizer adds its line here."""

__all__ = ["BUILDERS", "lstm", "partition"]
