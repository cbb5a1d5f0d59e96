"""The kernel of an LSTM layer, interpreted, against the plain formula; and what it lowers to."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax import lstm, truncated_bptt
from l2ljax.optimizers import tiles
from l2ljax.optimizers.fused_layer import fused_layer
from l2ljax.optimizers.networks import CoordinatewiseLSTM, lstm_cell
from l2ljax.tasks import quadratic

SIZES = [(2, 20, 300), (20, 20, 128), (1, 5, 1), (3, 17, 257)]
"""Inputs, units, coordinates: multiples of a tile's 128 and not, of a dot's 16 and not."""


def plain(weights, inputs, hidden, cell):
    """The formula, in float32."""
    arrays = (x.astype(jnp.float32) for x in (weights, inputs, hidden, cell))
    weights, inputs, hidden, cell = arrays
    rows = jnp.concatenate([inputs, hidden, jnp.ones_like(inputs[:1])])
    return lstm_cell(jnp.tensordot(weights, rows, axes=1), cell)


def random_arrays(inputs, units, *shape, dtype="float32"):
    """Weights, inputs, hidden, cell of order one, and two cotangents."""
    rng = np.random.default_rng(0)
    shapes = [(4 * units, inputs + units + 1), (inputs, *shape), *[(units, *shape)] * 4]
    weights, *rest = (jnp.asarray(rng.normal(size=size), dtype) for size in shapes)
    return (weights / 4, *rest[:3]), tuple(rest[3:])


def interpreted(*arrays):
    return fused_layer(*arrays, interpret=True)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_values_and_vjps_are_those_of_the_plain_layer(sizes):
    """In float32, up to the order of sums."""
    arrays, cotangents = random_arrays(*sizes)
    ours, our_vjp = jax.vjp(interpreted, *arrays)
    expected, vjp = jax.vjp(plain, *arrays)
    chex.assert_trees_all_close(ours, expected, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(our_vjp(cotangents), vjp(cotangents), rtol=1e-4, atol=1e-4)


def test_a_program_may_sum_over_several_tiles(monkeypatch):
    """Three tiles for two programs, the last of which meets the end of the array early."""
    monkeypatch.setitem(tiles.TILINGS, "cuda", tiles.Tiling(block=16, programs=2))
    arrays, cotangents = random_arrays(2, 5, 41)
    ours = jax.vjp(interpreted, *arrays)[1](cotangents)
    chex.assert_trees_all_close(ours, jax.vjp(plain, *arrays)[1](cotangents), rtol=1e-4, atol=1e-4)


def test_bfloat16():
    """Results have the inputs' dtype and the precision of one rounding of each factor."""
    arrays, cotangents = random_arrays(2, 20, 40, dtype="bfloat16")
    ours, our_vjp = jax.vjp(interpreted, *arrays)
    assert {x.dtype for x in (*ours, *our_vjp(cotangents))} == {jnp.dtype(jnp.bfloat16)}
    expected, vjp = jax.vjp(plain, *arrays)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), (ours, our_vjp(cotangents)))
    theirs = expected, vjp(jax.tree.map(lambda x: x.astype(jnp.float32), cotangents))
    theirs = jax.tree.map(lambda x: x.astype(jnp.float32), theirs)
    for a, b in zip(jax.tree.leaves(wide), jax.tree.leaves(theirs), strict=True):
        assert jnp.max(jnp.abs(a - b)) <= 2e-2 * jnp.max(jnp.abs(b))


@pytest.mark.parametrize("axes", [(None, 0, 0, 0), (0, 0, None, 0), (None, -1, -1, -1)], ids=str)
def test_it_batches(axes):
    """Over tasks, over perturbed weights, over an axis of coordinates; and so does its VJP."""
    singles, cotangents = random_arrays(2, 5, 3)
    arrays = [
        x if axis is None else jnp.stack([x, 2 * x, -x], axis)
        for x, axis in zip(singles, axes, strict=True)
    ]

    def both(layer, *arrays):
        out, vjp = jax.vjp(layer, *arrays)
        return out, vjp(cotangents)

    ours = jax.vmap(lambda *x: both(interpreted, *x), axes)(*arrays)
    expected = jax.vmap(lambda *x: both(plain, *x), axes)(*arrays)
    chex.assert_trees_all_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_meta_gradients_are_those_of_the_plain_kernel():
    """The recorded backward pass and the scan, two tasks side by side."""
    key = jax.random.key(0)

    def estimate(kernel, backward):
        optimizer = lstm((3,), kernel=kernel)
        estimator = truncated_bptt(
            quadratic(5),
            optimizer,
            num_tasks=2,
            episode_length=3,
            unroll_length=3,
            backward=backward,
        )
        meta_params = optimizer.init(key)
        loss, grads, *_ = estimator.estimate(meta_params, estimator.init(key, meta_params), key)
        return loss, grads

    expected = estimate("plain", "recorded")
    for backward in ("recorded", "scan"):
        chex.assert_trees_all_close(
            estimate("interpreted", backward), expected, rtol=1e-4, atol=1e-6
        )


def test_no_coordinates_are_no_error():
    network = CoordinatewiseLSTM((3,), kernel="pallas")
    optimizer = lstm((3,), kernel="interpreted")
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    updates, _ = tx.update(jnp.zeros((0, 2)), tx.init(jnp.zeros((0, 2))))
    assert updates.shape == (0, 2)
    assert hash(network) != hash(CoordinatewiseLSTM((3,)))


@pytest.mark.parametrize("compiled", [True, False])
def test_a_platform_without_a_lowering_is_refused(compiled):
    """On this CPU, whether traced or not, by a sentence that says what to use."""
    optimizer = lstm((3,), kernel="pallas")
    meta_params = lstm((3,)).init(jax.random.key(0))
    tx = optimizer.transform(meta_params)
    update = jax.jit(tx.update) if compiled else tx.update
    with pytest.raises(ValueError, match="none for 'cpu': there use kernel='plain'"):
        update(jnp.ones(2), tx.init(jnp.ones(2)))


def test_bad_kernels_are_refused():
    """A name that is none, and a dtype that a kernel does not compute in."""
    with pytest.raises(ValueError, match=r"kernel must be one of .*'pallas'"):
        lstm((3,), kernel="cuda")
    with pytest.raises(ValueError, match=r"float32 or bfloat16, got dtype=float16"):
        lstm((3,), kernel="pallas", dtype=jnp.float16)


CUSTOM_CALLS = {
    "cuda": r"__gpu\$xla.gpu.triton|triton_kernel_call",
    "tpu": "tpu_custom_call",
}


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")
@pytest.mark.parametrize("programs", [1, 264])
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_it_lowers_for_accelerators(platform, programs, monkeypatch):
    """Value and VJP of a batch of layers, as kernels: gates are in no array of the program."""
    tiling = tiles.TILINGS[platform]
    if platform == "cuda":
        monkeypatch.setitem(tiles.TILINGS, platform, tiling._replace(programs=programs))
    arrays, cotangents = random_arrays(2, 20, 300)

    def both(*arrays):
        out, vjp = jax.vjp(fused_layer, *arrays)
        return out, vjp(cotangents)

    batch = [arrays[0], *(jnp.stack([x, x]) for x in arrays[1:])]
    allowed = [
        jax.export.DisabledSafetyCheck.custom_call(name)
        for name in ("__gpu$xla.gpu.triton", "triton_kernel_call_ffi", "tpu_custom_call")
    ]
    program = jax.jit(jax.vmap(both, (None, 0, 0, 0)))
    try:
        exported = jax.export.export(program, platforms=[platform], disabled_checks=allowed)(*batch)
    except RuntimeError as error:  # From JAX 0.11 on, Triton is compiled while it is lowered.
        if "No supported GPU" not in str(error):
            raise
        pytest.skip("this version of JAX lowers Triton where there is a GPU only")
    text = exported.mlir_module()
    assert len(re.findall(CUSTOM_CALLS[platform], text)) >= 2
    assert "80x300" not in text
    assert "f64" not in text
    assert len(text) < 2**18


def test_explicitly_sharded_parameters_are_refused():
    """Nothing divides a kernel among devices; the plain formula goes on with the same weights."""
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
    param = jax.device_put(jnp.ones(8), jax.sharding.NamedSharding(mesh, jax.P("x")))
    tx = lstm((2,), kernel="interpreted").transform(lstm((2,)).init(jax.random.key(0)))
    with jax.set_mesh(mesh), pytest.raises(ValueError, match=r'sharded as .* use kernel="plain"'):
        jax.jit(tx.update)(param, tx.init(param))
