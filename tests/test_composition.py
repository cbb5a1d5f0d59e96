"""`pretrained` inside Optax's own containers, on one device and with sharded parameters.

What is expected follows from the containers' definitions, and for sharded parameters from one
device. A CPU can pose as several devices, but only from before JAX starts: this file is also the
script that does.
"""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import l2ljax

PARAMS = {"w": jnp.linspace(-1, 1, 32).reshape(8, 4), "b": jnp.linspace(0.5, 1, 8)}
GRADIENT = jax.tree.map(lambda p: jnp.sin(3 * p), PARAMS)
SPECS = {"w": P("x", "y"), "b": P(("x", "y"))}


def one_update(tx, state=None):
    return tx.update(GRADIENT, tx.init(PARAMS) if state is None else state, PARAMS)[0]


def test_decay_of_matrices_alone_goes_behind():
    """theta <- theta + u - decay theta for matrices, + u for vectors."""
    mask = {"w": True, "b": False}
    tx = optax.chain(l2ljax.pretrained(), optax.add_decayed_weights(-0.1, mask=mask))
    learned, ours = one_update(l2ljax.pretrained()), one_update(tx)
    np.testing.assert_allclose(ours["w"], learned["w"] - 0.1 * PARAMS["w"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ours["b"], learned["b"])


@pytest.mark.parametrize("name", ["nominal-suite", "lstm-mnist"])
def test_its_numbers_can_be_injected(name):
    """Set in the state between two steps, as AdamW's are: rate (u - decay theta)."""
    tx = optax.inject_hyperparams(l2ljax.pretrained)(name, learning_rate=1.0, weight_decay=0.0)
    learned = one_update(l2ljax.pretrained(name))
    state = tx.init(PARAMS)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        one_update(tx, state),
        learned,
    )
    state = optax.tree.set(state, learning_rate=0.5, weight_decay=0.2)
    updates = jax.jit(tx.update)(GRADIENT, state, PARAMS)[0]
    for leaf, update in updates.items():
        expected = 0.5 * (learned[leaf] - 0.2 * PARAMS[leaf])
        np.testing.assert_allclose(update, expected, rtol=1e-5, atol=1e-6)


def test_injected_options_and_schedules_arrive():
    """Options of the rule's builder and a guard beside a scheduled rate; at count 0 it is 0."""
    make = optax.inject_hyperparams(l2ljax.pretrained)
    tx = make("lstm-mnist", learning_rate=lambda t: 0.0 * t, nonfinite="skip", guard=True)
    state = tx.init(PARAMS)
    assert isinstance(state.inner_state, l2ljax.GuardState)
    assert not any(leaf.any() for leaf in one_update(tx, state).values())
    with pytest.raises(ValueError, match="hidden"):
        make("lstm-mnist", hidden=3).init(PARAMS)


CONTAINERS = {
    "guard": lambda: l2ljax.pretrained(
        guard=True, weight_decay=1e-3, learning_rate=optax.linear_schedule(1.0, 0.5, 4)
    ),
    "clipping": lambda: optax.chain(optax.clip_by_global_norm(1.0), l2ljax.pretrained()),
    "accumulation": lambda: optax.MultiSteps(
        l2ljax.pretrained(guard=True), 2
    ).gradient_transformation(),
    "partition": lambda: optax.partition(
        {"learned": l2ljax.pretrained(guard=True), "adamw": optax.adamw(1e-3)},
        {"w": "learned", "b": "adamw"},
    ),
    "injected": lambda: optax.inject_hyperparams(l2ljax.pretrained)(learning_rate=0.5),
}


def three_steps(tx, params, gradient):
    """Parameters after three steps with donated states, and whether state types stayed."""

    def step(params, state):
        updates, state = tx.update(gradient, state, params, value=jnp.float32(1.0))
        return optax.apply_updates(params, updates), state

    step = jax.jit(step, donate_argnums=1)
    state = tx.init(params)
    before = jax.tree.map(jax.typeof, state)
    for _ in range(3):
        params, state = step(params, state)
    return params, jax.tree.map(jax.typeof, state) == before


def furthest(a, b):
    """The largest difference of any coordinate."""
    return max(float(np.abs(np.asarray(a[k]) - np.asarray(b[k])).max()) for k in a)


def observe(axis_type):
    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(axis_type,) * 2)
    seen = {}
    for name, make in CONTAINERS.items():
        alone, _ = three_steps(make(), PARAMS, GRADIENT)
        with jax.set_mesh(mesh):
            params, gradient = (
                {k: jax.device_put(tree[k], NamedSharding(mesh, SPECS[k])) for k in tree}
                for tree in (PARAMS, GRADIENT)
            )
            after, stable = three_steps(make(), params, gradient)
        seen[name] = {
            "stable": stable,
            "sharded": all(
                after[k].sharding.is_equivalent_to(params[k].sharding, params[k].ndim)
                for k in params
            ),
            "error": furthest(after, alone) / furthest(alone, PARAMS),
        }
    return seen


@pytest.mark.slow
def test_containers_keep_shardings():
    """On four devices: the numbers of one, and state and parameters split as they were.

    To rounding of what they moved by, which is 1.6 where clipped gradients are orthogonalised.
    """
    child = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | quick.devices(4),
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    for seen in json.loads(child.stdout).values():
        assert seen.keys() == CONTAINERS.keys()
        for name, observed in seen.items():
            assert observed["stable"], name
            assert observed["sharded"], name
            assert observed["error"] < 5e-5, name


if __name__ == "__main__":
    print(json.dumps({kind.name: observe(kind) for kind in (AxisType.Explicit, AxisType.Auto)}))
