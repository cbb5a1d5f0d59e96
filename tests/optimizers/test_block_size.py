"""The default block: on a CPU what its caches hold, on an accelerator what fills it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from l2ljax import optimizers
from l2ljax.optimizers import tensor_network, transform
from l2ljax.optimizers.block_size import chosen_block_size
from l2ljax.parallel.platform import platform_of

MAKERS = {
    "lstm": lambda **options: optimizers.lstm((2,), **options),
    "rnnprop": lambda **options: optimizers.rnnprop((2,), **options),
    "small_fc": lambda **options: optimizers.small_fc((32,), **options),
    "celo2": lambda **options: optimizers.celo2((32,), orthogonalize=False, **options),
}
"""The last two are wide enough to run as matrices; narrow ones have no temporaries to cut."""


def on(monkeypatch, platform):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)


def loops(optimizer, shape):
    """Whether an update of a parameter goes block by block."""
    meta_params = jax.eval_shape(optimizer.init, jax.random.key(0))
    param = jax.ShapeDtypeStruct(shape, jnp.float32)

    def update(meta_params, param):
        tx = optimizer.transform(meta_params)
        return tx.update(param, tx.init(param), param)[0]

    text = str(jax.make_jaxpr(update)(meta_params, param))
    return "scan[" in text or "while[" in text


@pytest.mark.parametrize("sizes", [transform.BLOCK_SIZES, tensor_network.BLOCK_SIZES])
def test_a_platform_has_its_size_and_an_explicit_one_wins(sizes, monkeypatch):
    assert sizes.cpu in (32_768, 65_536)
    assert sizes.on("cpu") == sizes.cpu == chosen_block_size("default", sizes)
    assert sizes.on("gpu") == sizes.on("tpu") == 2**20
    on(monkeypatch, "gpu")
    assert [chosen_block_size(size, sizes) for size in ("default", 3, None)] == [2**20, 3, None]


def test_the_platform_is_the_meshs_or_the_default_devices(monkeypatch):
    on(monkeypatch, "gpu")
    device = jax.devices("cpu")[0]
    assert platform_of() == "gpu"
    assert platform_of(Mesh(np.array([device]), ("tasks",))) == "cpu"
    with jax.default_device(device):
        assert platform_of() == "cpu"
    with jax.default_device("cpu"):
        assert platform_of() == "cpu"


@pytest.mark.parametrize("name", MAKERS)
def test_updates_are_cut_for_the_platform(name, monkeypatch):
    """The choice is made when an update is traced, not when its optimizer is built."""
    default, explicit = MAKERS[name](), MAKERS[name](block_size=65_536)
    shape = (2**9, 2**8)
    assert loops(default, shape)
    on(monkeypatch, "gpu")
    assert not loops(default, shape)
    assert loops(explicit, shape)
    assert loops(default, (2**11, 2**10))


def test_the_default_is_written_as_such():
    """Weights that were trained on a CPU take an accelerator's blocks there."""
    assert optimizers.lstm().specification["block_size"] == "default"
    assert optimizers.lstm(block_size=65_536) is not optimizers.lstm()
    assert optimizers.build({"name": "lstm"}) is optimizers.lstm()
