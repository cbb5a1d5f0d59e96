"""The outer loop: meta-training."""

from l2ljax.training.checking import check_estimator
from l2ljax.training.faults import DivergenceError
from l2ljax.training.loggers import Logger, TensorBoardLogger
from l2ljax.training.loop import meta_train
from l2ljax.training.result import MetaTrainResult, load_run
from l2ljax.training.step import MetaTrainState, init_state, meta_step
from l2ljax.training.validation import Validation

__all__ = [
    "DivergenceError",
    "Logger",
    "MetaTrainResult",
    "MetaTrainState",
    "TensorBoardLogger",
    "Validation",
    "check_estimator",
    "init_state",
    "load_run",
    "meta_step",
    "meta_train",
]
