"""The machine at hand: its memory, and what results call it."""

import contextlib
import math
import os
from importlib import metadata

import jax

from l2ljax.base import GradientEstimator, LearnedOptimizer


def check_memory(optimizer: LearnedOptimizer, estimator: GradientEstimator) -> None:
    """Refuses running optimizees that alone are larger than the memory of all devices.

    Raises:
        ValueError: with both sizes.
    """
    key = jax.random.key(0)
    try:
        state = jax.eval_shape(lambda key: estimator.init(key, optimizer.init(key)), key)
        needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    except OverflowError:  # a shape that is beyond what JAX counts
        needed = math.inf
    device = jax.local_devices()[0]
    there = (device.memory_stats() or {}).get("bytes_limit")
    there = there or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there * jax.device_count():
        raise ValueError(
            f"num_tasks running optimizees of this task, with the optimizer's state, need "
            f"{needed:.3g} bytes, more than the {there:.3g} of a device; lower num_tasks or a size."
        )


def hardware() -> str:
    """Device kind and count, as results name them, e.g. "cpu x 1 (2 cores)".

    Returns:
        the text, of all processes' devices.

    Example:
        >>> " x " in hardware()
        True
    """
    device = jax.devices()[0]
    cores = f" ({os.cpu_count()} cores)" if device.platform == "cpu" else ""
    return f"{device.device_kind} x {jax.device_count()}{cores}"


LIBRARIES = ("l2ljax", "jax", "jaxlib", "flax", "optax", "numpy")
"""Whose versions a run keeps: results may depend on them."""


def versions() -> dict[str, str]:
    """Library -> version, of those that are installed.

    Example:
        >>> versions()["jax"] == jax.__version__
        True
    """
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
