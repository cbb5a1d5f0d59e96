"""Records of a run's history: metrics as JSON values."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

COUNTS = ("skipped", "diverged", "restores")
OWN = {"update", "meta_loss", "meta_grad_norm", "validation_loss", "faults", *COUNTS}
"""Names in records that an estimator's metrics cannot have."""


def check_names(metrics: Mapping[str, Any]) -> None:
    """Refuses metrics of an estimator whose names are those of a run's own records.

    (What they hold, `l2ljax.estimators.returned` has checked.)

    Raises:
        ValueError: naming them.
    """
    if taken := sorted(OWN & set(metrics)):
        raise ValueError(
            f"An estimator's metrics cannot be named {', '.join(taken)}, as meta_train's own "
            "records are; rename them."
        )


def training_record(update: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a meta-update, from what `meta_step` returns."""
    faults = metrics["faults"]
    counts = {name: getattr(faults, name) for name in COUNTS}
    found = {name: value for name, value in metrics.items() if name != "faults"} | counts
    return {"update": update} | {name: plain(value) for name, value in found.items()}


def plain(value: Any) -> Any:
    """JSON values: floats to 7 digits (all that float32 has), null for what is not finite.

    Example:
        >>> plain({"norms": {"a": jnp.array([0.1, jnp.nan])}, "counts": [np.int32(3)]})
        {'norms': {'a': [0.1, None]}, 'counts': [3]}
    """
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, tuple) and (fields := getattr(value, "_fields", None)):
        return plain(dict(zip(fields, value, strict=True)))
    if isinstance(value, tuple | list) or value is None:
        return None if value is None else [plain(entry) for entry in value]
    array = np.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return array.tolist()
    if array.ndim == 0:
        return float(f"{float(array):.7g}") if np.isfinite(float(array)) else None
    return [plain(entry) for entry in array]
