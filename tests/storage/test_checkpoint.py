"""Checkpoints: what comes back is what was saved, or a sentence says why not."""

import os
import random
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from damage import DAMAGES
from states import make_state, restore, same
from test_meta_train import train

from l2ljax.storage import checkpoint
from l2ljax.storage.checkpoint import DamagedCheckpointError


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """A folder with the checkpoints of `make_state(2)` and `make_state(4)`."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    for step in (2, 4):
        checkpoint.save(folder, step, make_state(step), {"seconds": step / 7})
    return folder


def test_round_trip(two_checkpoints):
    """The newest, to the last bit, with what was said beside it."""
    (state, extra), told = restore(two_checkpoints)
    assert same(state, make_state(4))
    assert extra == {"seconds": 4 / 7}
    assert not told


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("part", ["header", "arrays", "anywhere"])
def test_a_checkpoint_may_be_damaged_anywhere(two_checkpoints, tmp_path, name, part):
    """The damage has no effect, or the checkpoint before is taken and a sentence tells so."""
    draw, went_back = random.Random(0), 0
    whole = (two_checkpoints / "4.safetensors").read_bytes()
    begin = 8 + int.from_bytes(whole[:8], "little")
    for case in range(12):
        folder = tmp_path / f"{case}" / "checkpoints"
        shutil.copytree(two_checkpoints, folder)
        path = folder / "4.safetensors"
        if part == "anywhere" or name == "remove":
            DAMAGES[name](path, draw)
        else:
            cuts = (0, begin) if part == "header" else (begin, len(whole))
            (tmp_path / "part").write_bytes(whole[slice(*cuts)])
            DAMAGES[name](tmp_path / "part", draw)
            path.write_bytes(whole[: cuts[0]] + (tmp_path / "part").read_bytes() + whole[cuts[1] :])
        (state, extra), told = restore(folder)
        if same(state, make_state(4)):
            assert extra == {"seconds": 4 / 7}
            assert not told
            continue
        went_back += 1
        assert same(state, make_state(2))
        assert extra == {"seconds": 2 / 7}
        if name == "remove":
            continue
        assert len(told) == 1
        assert "\n" not in told[0]
        assert told[0].startswith(f"Checkpoint 4 in {folder} is damaged: ")
        assert (folder.parent / "damaged" / "4.safetensors").is_file()
        assert [p.name for p in folder.iterdir()] == ["2.safetensors"]
    assert went_back
    assert went_back == 12 or name in ("flip", "overwrite")  # of what nobody reads


def test_a_flipped_number_is_noticed(two_checkpoints, tmp_path):
    """One bit of one array, where the file format has no checksum of its own."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_checkpoints, folder)
    content = bytearray((folder / "4.safetensors").read_bytes())
    large = np.asarray(make_state(4)["large"][0]).tobytes()
    content[content.index(large) + 1000] ^= 1
    (folder / "4.safetensors").write_bytes(content)
    (state, _), told = restore(folder)
    assert same(state, make_state(2))
    assert "is damaged: the array large/0 is not what was saved" in told[0]


def test_it_is_a_safetensors_file(two_checkpoints):
    """Any reader of that format finds the arrays that it has a dtype for."""
    found = safetensors.numpy.load_file(two_checkpoints / "4.safetensors")
    state = make_state(4)
    assert found["large/0"].tobytes() == np.asarray(state["large"][0]).tobytes()
    assert found["update"] == 4
    assert found["key"].dtype == np.uint32


def test_the_newest_are_kept(tmp_path):
    """Two of them, and nothing else is left of the others or of a write that was cut off."""
    (tmp_path / ".writing").write_bytes(b"cut off")
    for step in range(8, 12):
        checkpoint.save(tmp_path, step, {"x": jnp.zeros(3)}, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["10.safetensors", "11.safetensors"]
    assert list(checkpoint.steps(tmp_path)) == [10, 11]


def test_names_that_come_twice(tmp_path):
    """`a/b` is a key here and a path there: both arrays come back."""
    state = {"a/b": jnp.float32(1), "a": {"b": jnp.float32(2)}}
    checkpoint.save(tmp_path, 1, state, {})
    found = checkpoint.place(checkpoint.load(tmp_path), state)
    assert jax.tree.map(float, found) == {"a/b": 1, "a": {"b": 2}}


def test_nothing_of_the_process_changes(tmp_path):
    """Neither hooks nor filters of logs nor threads are left behind."""
    code = """
import logging, sys, threading
import jax.numpy as jnp
from l2ljax.storage import checkpoint
def seen():
    filters = [list(logging.getLogger(n).filters) for n in ("", "asyncio", "absl", "orbax")]
    return sys.unraisablehook, sys.excepthook, threading.active_count(), filters
state = {"x": jnp.ones(3)}
before = seen()
checkpoint.save(sys.argv[1], 1, state, {})
checkpoint.place(checkpoint.load(sys.argv[1]), state)
assert seen() == before
assert "orbax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_sharded_array_comes_back_sharded(tmp_path):
    """Each leaf where it was, typed keys included, on four devices of a CPU."""
    code = """
import sys, jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
from l2ljax.storage import checkpoint
mesh = jax.make_mesh((4,), ("tasks",), axis_types=(jax.sharding.AxisType.Auto,))
split, whole = NamedSharding(mesh, P("tasks")), NamedSharding(mesh, P())
state = {
    "a": jax.device_put(jnp.arange(8.0), split),
    "keys": jax.device_put(jax.random.split(jax.random.key(3), 4), split),
    "b": jax.device_put(jnp.ones((2, 2)), whole),
}
checkpoint.save(sys.argv[1], 1, state, {})
like = jax.tree.map(lambda x: jnp.copy(x) if x.dtype == jnp.float32 else x, state)
found = checkpoint.place(checkpoint.load(sys.argv[1]), like)
for name in state:
    assert found[name].sharding == state[name].sharding, name
    assert (found[name] == state[name]).all(), name
"""
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, env=os.environ | devices
    )


def test_a_restored_array_is_as_free_as_it_was(tmp_path):
    """Bound to a device only where it was: else programs would be compiled anew for it."""
    free = {"key": jax.random.key(3), "x": jnp.ones(2)}
    for state in (free, jax.device_put(free, jax.devices()[0])):
        checkpoint.save(tmp_path, 1, state, {})
        found = checkpoint.place(checkpoint.load(tmp_path), state)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True):
            assert a.committed == b.committed


def test_without_a_whole_checkpoint_the_run_does_not_start_over(two_checkpoints, tmp_path):
    """It is refused, and nothing is moved."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_checkpoints, folder)
    for step in (2, 4):
        (folder / f"{step}.safetensors").write_text("{}")
    with pytest.raises(DamagedCheckpointError, match=r"and no other checkpoint there is whole"):
        restore(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["2.safetensors", "4.safetensors"]
    assert not (tmp_path / "damaged").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"large": [jnp.zeros((40, 99))]}, r"large/0 has shape \(40, 100\) .* \(40, 99\) and"),
        ({"update": jnp.float32(0)}, r"update has .* dtype int32, expected .* dtype float32"),
        ({"more": jnp.zeros(2)}, r"more has no array, expected shape \(2,\) and dtype float32"),
    ],
)
def test_another_runs_checkpoint_is_refused(two_checkpoints, change, words):
    """The first array that differs is named."""
    with pytest.raises(ValueError, match=words):
        checkpoint.place(checkpoint.load(two_checkpoints), make_state(0) | change)


def test_a_run_whose_newest_checkpoint_is_damaged_ends_as_if_it_were_not(tmp_path):
    """The updates since the one before are made again: same weights and history, bit for bit."""
    whole = train(4, workdir=tmp_path / "whole", checkpoint_every=1)
    train(3, workdir=tmp_path / "run", checkpoint_every=1)
    (tmp_path / "run/checkpoints/3.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match="went on from checkpoint 2 instead"):
        resumed = train(4, workdir=tmp_path / "run", checkpoint_every=1)
    assert resumed.history == whole.history
    weights = zip(
        *map(jax.tree.leaves, (whole.last_meta_params, resumed.last_meta_params)), strict=True
    )
    assert all(a.tobytes() == b.tobytes() for a, b in weights)


@pytest.mark.parametrize("orbax", [True, False])
def test_one_of_the_same_number_stays_or_is_replaced(tmp_path, orbax):
    """Whichever format it has, one is left."""
    checkpoint.save(tmp_path, 4, make_state(4), {"seconds": 1.0})
    if orbax:
        (tmp_path / "4.safetensors").unlink()
        (tmp_path / "4").mkdir()
    before = list(tmp_path.iterdir())
    checkpoint.save(tmp_path, 4, make_state(5), {"seconds": 2.0})
    assert list(tmp_path.iterdir()) == before
    checkpoint.save(tmp_path, 4, make_state(5), {"seconds": 2.0}, replace=True)
    (state, extra), _ = restore(tmp_path)
    assert same(state, make_state(5))
    assert extra == {"seconds": 2.0}
    assert [path.name for path in tmp_path.iterdir()] == ["4.safetensors"]
