"""Honest measurement: rollouts, tuning, curves beside one another, statistics, reports."""

from l2ljax.evaluation._rollouts import evaluate, rollouts
from l2ljax.evaluation.comparison import Comparison
from l2ljax.evaluation.curve import Curve
from l2ljax.evaluation.curves import compare
from l2ljax.evaluation.stages import Stage
from l2ljax.evaluation.statistics import differences, mean_ci95, summarise
from l2ljax.evaluation.tuning import BASELINES, LEARNING_RATES, Tuning, tune, tune_inside

__all__ = [
    "BASELINES",
    "LEARNING_RATES",
    "Comparison",
    "Curve",
    "Stage",
    "Tuning",
    "compare",
    "differences",
    "evaluate",
    "mean_ci95",
    "rollouts",
    "summarise",
    "tune",
    "tune_inside",
]
