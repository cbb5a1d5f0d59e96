"""Settings of all tests: CPU, and quick compilation, since tests compile much and run little."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_disable_most_optimizations", True)
