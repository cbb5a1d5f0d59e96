"""Which backward pass a truncated estimator takes: the recorded one, or through the rollout."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from l2ljax.base import LearnedOptimizer, Task
from l2ljax.checks import check_float_dtype
from l2ljax.estimators.groups import coordinate_groups, is_recordable
from l2ljax.estimators.optimizees import sample_batch
from l2ljax.parallel.meshes import COORDINATES

LEAST_RANGE = 1e30
"""Of a dtype that gradients are recorded in: larger ones would count as diverged."""


def check_record_dtype(dtype: jax.typing.DTypeLike) -> None:
    """Refuses what cannot hold large gradients.

    Raises:
        ValueError: for what is no real floating dtype, or one as narrow as float16.
    """
    check_float_dtype("record_dtype", dtype)
    if (largest := float(jnp.finfo(dtype).max)) < LEAST_RANGE:
        raise ValueError(
            f"record_dtype={jnp.dtype(dtype).name} ends at {largest:g}, where gradients do not; "
            "use bfloat16."
        )


def choose_pass(
    task: Task,
    optimizer: LearnedOptimizer,
    backward: Literal["auto", "recorded", "scan"],
    coordinate_share: float,
    second_derivatives: bool,
    mesh: Mesh | None,
) -> Literal["recorded", "scan"]:
    """What "auto" comes to, and whether what was asked for can be done.

    Args:
        task, optimizer: of the estimator.
        backward, coordinate_share, second_derivatives, mesh: as `truncated_bptt` takes them.

    Raises:
        ValueError: for options that exclude one another, and groups that do not fit.
    """
    stateless = task.init_state is None
    shared = mesh is not None and COORDINATES in mesh.shape
    declared = optimizer.coordinate_groups if shared else optimizer.groups
    recordable = declared is not None and stateless and not second_derivatives
    follows = recordable and _rule_follows(task, optimizer, strict=backward == "recorded")
    if (backward == "recorded" or coordinate_share < 1) and not recordable:
        if second_derivatives:
            reason = "second_derivatives=True makes coordinates influence one another"
        elif not stateless:
            reason = "this task has state"
        elif optimizer.groups is not None:
            reason = f"devices along the mesh axis {COORDINATES!r} cannot share whole tensors"
        else:
            reason = "this learned optimizer declares no coordinate_groups or tensor_groups"
        if shared:
            raise ValueError(
                f"A mesh with the axis {COORDINATES!r} needs the recorded backward pass of "
                f'independent coordinates, but {reason}; give a mesh with the axis "tasks" alone.'
            )
        raise ValueError(
            "The recorded backward pass and coordinate_share < 1 need independent coordinates or "
            f'tensors, but {reason}; use backward="scan" and coordinate_share=1.'
        )
    if coordinate_share < 1 and not follows:
        _rule_follows(task, optimizer, strict=True)
    if backward == "scan" and coordinate_share < 1:
        raise ValueError(
            f'coordinate_share={coordinate_share} needs backward="recorded", got backward="scan".'
        )
    if backward == "auto":
        # For whole tensors it takes half the memory of the scan, but no less time: on request.
        wanted = optimizer.coordinate_groups is not None or coordinate_share < 1
        backward = "recorded" if follows and wanted else "scan"
    if backward == "scan" and shared:
        raise ValueError(
            f"A mesh with the axis {COORDINATES!r} needs the recorded backward pass of independent "
            'coordinates, got backward="scan"; give a mesh with the axis "tasks" alone.'
        )
    return backward


def _rule_follows(task: Task, optimizer: LearnedOptimizer, *, strict: bool) -> bool:
    """Whether the optimizer's groups fit the task's parameters and can be recorded.

    Raises:
        ValueError: if its groups do not serve each parameter once; with `strict`, also where the
            rule is one that cannot be recorded.
    """
    keys = jax.random.split(jax.random.key(0), 1)
    try:
        _, params = jax.eval_shape(sample_batch, task, keys)
    except Exception:  # the task's own fault, which is told where it is drawn from
        return True
    if strict:
        coordinate_groups(optimizer, params)
    return is_recordable(optimizer, params)
