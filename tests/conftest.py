"""Settings of all tests: CPU and quick compilation. Processes that tests start have XLA's own."""

import os

from quick import flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_disable_most_optimizations", True)

given = os.environ.get("XLA_FLAGS")
os.environ["XLA_FLAGS"] = flags()
jax.devices()  # now the flags are read, once for the process
os.environ.pop("XLA_FLAGS")
if given is not None:
    os.environ["XLA_FLAGS"] = given
