"""Settings of all tests: CPU and quick compilation. Processes that tests start have XLA's own."""

import os
from pathlib import Path

import pytest
from durations import LONG, SLOW
from quick import flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_disable_most_optimizations", True)

# The sdist has the documentation and its tests, and not the results that they compare it with.
collect_ignore = [] if (Path(__file__).parents[1] / "docs" / "results").exists() else ["docs"]

with pytest.MonkeyPatch.context() as patch:
    patch.setenv("XLA_FLAGS", flags())
    jax.devices()  # now the flags are read, once for the process


@pytest.fixture(autouse=True, scope="module")
def _programs_go_with_their_module():
    """Thousands of compiled programs are more than Linux lets a process map (65,530 areas)."""
    yield
    jax.clear_caches()


@pytest.hookimpl(tryfirst=True)  # before pytest looks at the marks
def pytest_collection_modifyitems(items):
    """Marks what tests/durations.py lists, unless it bears such a mark already."""
    for item in items:
        if any(item.get_closest_marker(mark) for mark in ("slow", "long")):
            continue
        if item.nodeid.startswith(LONG):
            item.add_marker("long")
        elif item.nodeid.startswith(SLOW):
            item.add_marker("slow")
