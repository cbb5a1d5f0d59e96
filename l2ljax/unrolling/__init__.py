"""The inner loop, and what its backward pass keeps."""

from l2ljax.unrolling.inner_loop import (
    OptimizeeState,
    draw_batch,
    final_params,
    init_optimizee,
    loss_and_gradients,
    sample_optimizee,
    scalar_loss,
    unroll,
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
