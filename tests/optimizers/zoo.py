"""Published weights, and what the official code computed with them: data that tests may lack."""

import functools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ZOO = Path(os.environ.get("L2LJAX_ZOO", Path(__file__).parents[3] / "shared" / "zoo"))

needs_zoo = pytest.mark.skipif(
    not ZOO.is_dir(),
    reason=f"published weights of others are not in the repository; L2LJAX_ZOO={ZOO} has none",
)


@functools.cache
def arrays(name):
    """All arrays of an archive, by name."""
    with np.load(ZOO / f"{name}.npz", allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def reference(name):
    """Weights, gradients, and what the official code made of them."""
    return arrays(f"reference/{name}")


def weights(name):
    """The meta-parameters that the official code used, by the authors' names."""
    return below(reference(name), "weights/")


def problem_of(name, run):
    """The gradients of the run `run`: P1, P2 or P3."""
    return json.loads((ZOO / "reference" / f"{name}.json").read_text())["runs"][run]["problem"]


def below(archive, prefix):
    """Arrays whose name has this prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in archive.items() if k.startswith(prefix)}


def replay(tx, theta, gradients):
    """Parameters after each step, `[num_steps, *shape]`, over given gradients."""

    def step(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        return (params, state), (params, updates)

    theta = jax.tree.map(jnp.asarray, theta)
    run = jax.jit(lambda theta, g: jax.lax.scan(step, (theta, tx.init(theta)), g)[1])
    return run(theta, jax.tree.map(jnp.asarray, gradients))


def largest_difference(tx, name, run):
    """After any step: the largest difference in a parameter, over the largest way of one.

    The way is measured from theta_0 in the official run: parameters are of order .5 and steps may
    be 1e-3, so a difference relative to the parameters would say little.
    """
    archive, problem = reference(name), problem_of(name, run)
    theta = below(archive, f"theta0/{problem}/")
    expected = below(archive, f"params/{run}/")
    params, _ = replay(tx, theta, below(archive, f"grads/{problem}/"))
    differences = [np.abs(params[leaf] - expected[leaf]).max() for leaf in theta]
    ways = [np.abs(expected[leaf] - theta[leaf]).max() for leaf in theta]
    return max(differences) / max(ways)
