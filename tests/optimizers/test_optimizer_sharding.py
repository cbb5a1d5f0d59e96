"""Every learned optimizer on eight devices: sharded parameters stay sharded, nothing is gathered.

A CPU can pose as eight devices, but only from before JAX starts. So this file, run as a script in
a process of its own, prints what each optimizer does there, and its tests judge that.
"""

import json
import os
import re
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
import quick
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from optimizer_cases import CASES, fresh

SHARDED = {name: optimizer for name, optimizer in CASES.items() if name != "lstm-kernel"}
"""A kernel is not divided among devices: `test_fused_layer` has what it says of such parameters."""
AXIS_TYPES = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
# A device's [2, 3] block of the matrix is not contiguous: flattening it would communicate.
SPECS = {"matrix": P("x", "y"), "vector": P(("x", "y")), "scalar": P()}
SHAPES = {"matrix": (8, 6), "vector": (8,), "scalar": ()}
ALLOWED = {
    "small_fc": {"all-reduce"},
    "small_fc-blocks": {"all-reduce"},
    "celo2": {"all-reduce", "all-gather", "collective-permute"},
    "celo2-network": {"all-reduce"},
    "nominal": {"all-reduce"},
    "nominal-averaged": {"all-reduce"},
    "nominal-skip": {"all-reduce"},
    "nominal-directions": {"all-reduce", "all-gather", "collective-permute"},
    "celo": {"all-reduce"},
}
COLLECTIVE = r"all-gather|all-reduce|all-to-all|collective-\w+|reduce-scatter"


def observe(optimizer):
    """What one update does to sharded parameters, as plain data for each kind of mesh."""
    tx, normal = fresh(optimizer), np.random.default_rng(0).normal
    gradient = {name: normal(size=shape).astype("float32") for name, shape in SHAPES.items()}
    local_updates, _ = jax.jit(tx.update)(gradient, tx.init(gradient))
    return {
        name: _observe_on_mesh(tx, gradient, local_updates, axis_type)
        for name, axis_type in AXIS_TYPES.items()
    }


def _observe_on_mesh(tx, gradient, local_updates, axis_type):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(axis_type,) * 2)
    with jax.set_mesh(mesh):
        gradient = {
            k: jax.device_put(v, NamedSharding(mesh, SPECS[k])) for k, v in gradient.items()
        }
        state = tx.init(gradient)
        compiled = jax.jit(tx.update).lower(gradient, state).compile()
        updates, next_state = compiled(gradient, state)
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(next_state), strict=True)
    return {
        "init like params": _is_like_params(tx, state, gradient),
        "state like params": _is_like_params(tx, next_state, gradient),
        "updates like params": [_is_split_like(updates[k], v) for k, v in gradient.items()],
        "stable": [
            jax.typeof(before) == jax.typeof(after)
            and before.sharding.is_equivalent_to(after.sharding, before.ndim)
            for before, after in pairs
        ],
        "collectives": re.findall(COLLECTIVE, compiled.as_text()),
        "errors": [float(np.abs(updates[k] - local_updates[k]).max()) for k in gradient],
    }


def _is_like_params(tx, state, params):
    is_masked = lambda node: isinstance(node, optax.MaskedNode)  # noqa: E731
    found = optax.tree.map_params(
        tx,
        lambda leaf, param: [] if is_masked(leaf) else _is_split_like(leaf, param),
        state,
        params,
        transform_non_params=lambda leaf: leaf.sharding.is_fully_replicated,
        is_leaf=is_masked,
    )
    return jax.tree.leaves(found)


def _is_split_like(leaf, param):
    """Whether the leaf's last axes are split as the parameter's, and its first axes not at all.

    What was averaged over an axis has length 1 there, and is not split along it.
    """
    spec = [*param.sharding.spec, *[None] * param.ndim][: param.ndim]
    lengths = leaf.shape[leaf.ndim - param.ndim :]
    spec = [s if n > 1 else None for s, n in zip(spec, lengths, strict=True)]
    spec = P(*[None] * (leaf.ndim - param.ndim), *spec)
    return leaf.sharding.is_equivalent_to(NamedSharding(param.sharding.mesh, spec), leaf.ndim)


@pytest.fixture(scope="module")
def observations():
    """`observe` of every optimizer, from a process with eight devices."""
    child = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | quick.devices(8),
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


on_every_mesh = pytest.mark.parametrize("mesh", AXIS_TYPES)
every_name = pytest.mark.parametrize("name", SHARDED)


@on_every_mesh
@every_name
def test_state_is_sharded_like_its_parameters(observations, name, mesh):
    """From `init` on, leading axes unsplit and the rest replicated; no update changes that."""
    seen = observations[name][mesh]
    for what in ("init like params", "state like params", "updates like params", "stable"):
        assert set(seen[what]) == {True}, what


@on_every_mesh
@every_name
def test_an_update_needs_no_communication(observations, name, mesh):
    """The compiled program has no all-gather, nor any other collective.

    Where tensors are seen as a whole, their mean squares are added up over devices, and a matrix
    that is made orthogonal is gathered.
    """
    collectives = set(observations[name][mesh]["collectives"])
    assert collectives <= ALLOWED.get(name, set())


@on_every_mesh
@every_name
def test_sharded_updates_are_those_of_one_device(observations, name, mesh):
    """Up to float32 rounding of updates of order 1e-3 and less (Celo2's are 1e-2)."""
    assert max(observations[name][mesh]["errors"]) < (1e-8 if "celo2" not in name else 1e-7)


if __name__ == "__main__":
    assert jax.device_count() == 8
    print(json.dumps({name: observe(optimizer) for name, optimizer in SHARDED.items()}))
