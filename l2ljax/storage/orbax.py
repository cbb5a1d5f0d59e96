"""Checkpoints of the format before (2), which Orbax wrote: still read where it is installed."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from l2ljax.base.words import named_leaves
from l2ljax.parallel import on_host


def read_orbax(folder: Path) -> tuple[dict[str, Any], Iterable[tuple[str, np.ndarray]]]:
    """What such a checkpoint says beside its arrays, with its seal as `sha256`, and the arrays."""
    content = json.loads((folder / "extra" / "metadata").read_text())
    content["sha256"] = content.pop("seal", None)
    if content.get("format") != 2:
        return content, ()
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise ModuleNotFoundError(
            f"The checkpoint {folder} was written by an earlier version of l2ljax through Orbax; "
            'run: pip install "orbax-checkpoint>=0.11.30" and start again.'
        ) from error

    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        state = checkpointer.restore((folder / "state").absolute())
    return content, ((name, on_host(leaf)) for name, leaf in named_leaves(state).items())
