"""The inner loop, and what its backward pass keeps."""

from l2ljax.unrolling.inner_loop import draw_batch, loss_and_gradients, scalar_loss, unroll
from l2ljax.unrolling.optimizee import (
    OptimizeeState,
    final_params,
    init_optimizee,
    sample_optimizee,
)

__all__ = [
    "OptimizeeState",
    "draw_batch",
    "final_params",
    "init_optimizee",
    "loss_and_gradients",
    "sample_optimizee",
    "scalar_loss",
    "unroll",
]
