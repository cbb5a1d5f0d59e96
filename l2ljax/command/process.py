"""The process of a command that computes: its logs, its caches, its memory, its devices."""

import contextlib
import ctypes
import os

import jax
from absl import logging

from l2ljax.tasks.data import cache_directory

M_ARENA_MAX = -8
"""glibc's number for the parameter, see mallopt(3)."""


def set_up() -> None:
    """Quiet logs, compiled programs kept between runs, and memory that stays flat.

    JAX_COMPILATION_CACHE_DIR says where they are kept; default: `~/.cache/l2ljax/xla`;
    none for a user without a home directory.
    """
    logging.set_verbosity(logging.WARNING)
    caches = cache_directory()
    if caches is not None and not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(caches / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if "MALLOC_ARENA_MAX" not in os.environ:
        # glibc would give the threads that write each checkpoint new heaps, and keep those:
        # memory then grows by 1 MiB a checkpoint (docs/robustness.md). Other C libraries have none.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


def set_up_devices(
    devices: int | None,
    *,
    distributed: bool = False,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Connects this process to the others of its run, or makes a lone one's CPU several devices.

    Args:
        devices: of a lone process; an accelerator's are as they are.
        distributed: one of several processes of a cluster that JAX knows.
        coordinator: `HOST:PORT` of process 0.
        num_processes: in all.
        process_id: this one's number, from 0.

    Raises:
        ValueError: if only some of the last three are given.
    """
    by_hand = (coordinator, num_processes, process_id)
    if any(value is not None for value in by_hand):
        if any(value is None for value in by_hand):
            raise ValueError("Give --coordinator, --num_processes and --process_id together.")
        jax.distributed.initialize(coordinator, num_processes, process_id)
    elif distributed:
        jax.distributed.initialize()
    elif devices is not None:
        jax.config.update("jax_num_cpu_devices", devices)


def idle_cores() -> str | None:
    """A line that tells how to use all of a CPU's cores, where they are one device."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if jax.default_backend() != "cpu" or jax.device_count() > 1 or (cores or 1) < 2:
        return None
    return (
        f"This CPU's {cores} cores are one device; --devices={cores} makes each its own, which is "
        "1.4 to 1.6 times as fast where coordinates are many (docs/performance.md)."
    )
