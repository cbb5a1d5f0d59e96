"""Quick compilation, since tests compile much and run little; and processes of many CPU devices."""

import os
import sys
from importlib.metadata import version

# XLA's older code generator for the CPU compiles in half the time. XLA ends a process over a flag
# that it does not know, so versions that may have dropped it go without.
CODE_GENERATOR = "--xla_cpu_use_fusion_emitters=false"
KNOWN = tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11)


def flags(*others: str) -> str:
    """`XLA_FLAGS` with what is there already."""
    given = os.environ.get("XLA_FLAGS", "")
    return " ".join([given, *[CODE_GENERATOR] * KNOWN, *others]).strip()


def devices(number: int) -> dict[str, str]:
    """Variables of a process whose CPU poses as `number` devices."""
    return {
        "XLA_FLAGS": flags(f"--xla_force_host_platform_device_count={number}"),
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # of machine code; partitioning is the same
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
