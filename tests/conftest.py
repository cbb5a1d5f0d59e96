"""Settings of all tests: CPU and quick compilation. Processes that tests start have XLA's own."""

import os

import pytest
from quick import flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_disable_most_optimizations", True)

with pytest.MonkeyPatch.context() as patch:
    patch.setenv("XLA_FLAGS", flags())
    jax.devices()  # now the flags are read, once for the process


@pytest.fixture(autouse=True, scope="module")
def _programs_go_with_their_module():
    """Thousands of compiled programs are more than Linux lets a process map (65,530 areas)."""
    yield
    jax.clear_caches()
