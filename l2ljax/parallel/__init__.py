"""Many devices: meshes, and what runs on each device's share of the tasks."""

from l2ljax.parallel.host import is_key, on_host, placed_like
from l2ljax.parallel.meshes import COORDINATES, TASKS
from l2ljax.parallel.over_devices import (
    ONE_PART,
    SPLIT,
    WHOLE,
    Parts,
    any_process,
    check_mesh,
    coordinate_parts,
    first_process_first,
    gathered,
    mean_over_tasks,
    over_tasks,
    place_data,
    replicate,
    task_mesh,
)

__all__ = [
    "COORDINATES",
    "ONE_PART",
    "SPLIT",
    "TASKS",
    "WHOLE",
    "Parts",
    "any_process",
    "check_mesh",
    "coordinate_parts",
    "first_process_first",
    "gathered",
    "is_key",
    "mean_over_tasks",
    "on_host",
    "over_tasks",
    "place_data",
    "placed_like",
    "replicate",
    "task_mesh",
]
