"""The ground floor: the three concepts, and the words in which errors name values."""

from l2ljax.base.concepts import (
    Batch,
    CoordinateGroup,
    GradientEstimator,
    Group,
    Instance,
    Key,
    LearnedOptimizer,
    MetaParams,
    Params,
    PyTree,
    Running,
    Task,
    TensorGroup,
)

__all__ = [
    "Batch",
    "CoordinateGroup",
    "GradientEstimator",
    "Group",
    "Instance",
    "Key",
    "LearnedOptimizer",
    "MetaParams",
    "Params",
    "PyTree",
    "Running",
    "Task",
    "TensorGroup",
]
