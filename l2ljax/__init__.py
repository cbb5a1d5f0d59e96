"""Learning optimizers by gradient descent, as Optax transformations.

A learned optimizer is a function from meta-parameters to an Optax transformation. See
`l2ljax.pretrained` to use one, `l2ljax.meta_train` to train one, `l2ljax.tasks` for what on.

What using a learned optimizer takes is loaded at once, the wings that train and measure one when
they are first asked for (PEP 562).
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from l2ljax import optimizers
from l2ljax.base import CoordinateGroup, GradientEstimator, LearnedOptimizer, Task, TensorGroup
from l2ljax.bundled import (
    load_optimizer,
    load_pretrained,
    pretrained,
    pretrained_metadata,
    pretrained_names,
    pretrained_table,
    save_optimizer,
)
from l2ljax.optimizers import (
    GuardState,
    celo,
    celo2,
    celo_adam,
    guard,
    hyperparameters,
    load_published,
    log,
    logit,
    lstm,
    nominal,
    partition,
    rnnprop,
    scale_by_celo,
    scale_by_celo_adam,
    scale_by_velo,
    small_fc,
    velo,
    wrap,
)
from l2ljax.optimizers.networks import CoordinatewiseLSTM, LSTMCarry
from l2ljax.optimizers.preprocess import identity, log_and_sign, log_sign
from l2ljax.optimizers.transform import ScaleByLSTMState, scale_by_lstm
from l2ljax.parallel import task_mesh
from l2ljax.specification import specified
from l2ljax.storage import workdir as workdir  # claim and exclusive, for scripts of one's own
from l2ljax.unrolling import OptimizeeState, init_optimizee, unroll

if TYPE_CHECKING:  # the same as `_LATER`, for readers of types
    from l2ljax import estimators, tasks
    from l2ljax.estimators import (
        curriculum,
        es,
        full_es,
        gpes,
        imitation,
        mixture,
        nres,
        pes,
        truncated_bptt,
    )
    from l2ljax.estimators.checking import check_learned_optimizer
    from l2ljax.evaluation import BASELINES, LEARNING_RATES, compare, evaluate, tune
    from l2ljax.experiments.adaptation import Adaptation, adapt
    from l2ljax.tasks.data import Images, load_dataset
    from l2ljax.training import (
        DivergenceError,
        MetaTrainResult,
        MetaTrainState,
        Validation,
        check_estimator,
        load_run,
        meta_train,
    )

__version__ = "0.1.0"

__all__ = [
    "BASELINES",
    "LEARNING_RATES",
    "Adaptation",
    "CoordinateGroup",
    "CoordinatewiseLSTM",
    "DivergenceError",
    "GradientEstimator",
    "GuardState",
    "Images",
    "LSTMCarry",
    "LearnedOptimizer",
    "MetaTrainResult",
    "MetaTrainState",
    "OptimizeeState",
    "ScaleByLSTMState",
    "Task",
    "TensorGroup",
    "Validation",
    "adapt",
    "celo",
    "celo2",
    "celo_adam",
    "check_estimator",
    "check_learned_optimizer",
    "compare",
    "curriculum",
    "es",
    "estimators",
    "evaluate",
    "full_es",
    "gpes",
    "guard",
    "hyperparameters",
    "identity",
    "imitation",
    "init_optimizee",
    "load_dataset",
    "load_optimizer",
    "load_pretrained",
    "load_published",
    "load_run",
    "log",
    "log_and_sign",
    "log_sign",
    "logit",
    "lstm",
    "meta_train",
    "mixture",
    "nominal",
    "nres",
    "optimizers",
    "partition",
    "pes",
    "pretrained",
    "pretrained_metadata",
    "pretrained_names",
    "pretrained_table",
    "rnnprop",
    "save_optimizer",
    "scale_by_celo",
    "scale_by_celo_adam",
    "scale_by_lstm",
    "scale_by_velo",
    "small_fc",
    "specified",
    "task_mesh",
    "tasks",
    "truncated_bptt",
    "tune",
    "unroll",
    "velo",
    "wrap",
]

_WINGS = ("estimators", "evaluation", "experiments", "tasks", "training")
_LATER = {
    "l2ljax.estimators": "curriculum es full_es gpes imitation mixture nres pes truncated_bptt",
    "l2ljax.estimators.checking": "check_learned_optimizer",
    "l2ljax.evaluation": "BASELINES LEARNING_RATES compare evaluate tune",
    "l2ljax.experiments.adaptation": "Adaptation adapt",
    "l2ljax.tasks.data": "Images load_dataset",
    "l2ljax.training": (
        "DivergenceError MetaTrainResult MetaTrainState Validation check_estimator load_run "
        "meta_train"
    ),
}
_HOME = {name: module for module, names in _LATER.items() for name in names.split()}

if not TYPE_CHECKING:  # or a type checker would take every name for one that exists

    def __getattr__(name: str) -> Any:
        """A public name of a wing that is not loaded yet, or that wing."""
        if name not in _HOME and name not in _WINGS:
            sentence = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(sentence, name=name, obj=sys.modules[__name__])

        if name in _WINGS:
            return importlib.import_module(f"{__name__}.{name}")  # binds the name here
        value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_WINGS})
