"""Adapting a learned optimizer to a task of one's own, in minutes: `adapt`."""

from l2ljax.experiments.adaptation.entrance import adapt
from l2ljax.experiments.adaptation.outcome import Adaptation

__all__ = ["Adaptation", "adapt"]
