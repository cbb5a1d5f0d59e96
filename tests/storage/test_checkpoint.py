"""Checkpoints: what comes back is what was saved, or a sentence says why not."""

import json
import random
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from damage import DAMAGES
from test_meta_train import train

from l2ljax.storage import checkpoint
from l2ljax.storage.orbax_errors import DamagedCheckpointError
from l2ljax.storage.seal import seal_json


def make_state(seed):
    """Arrays small enough for Orbax's index, and large enough for files of their own."""
    key = jax.random.key(seed)
    return {
        "key": key,
        "update": jnp.int32(seed),
        "large": [jax.random.normal(key, (40, 100))],
        "small": {"bfloat16": jax.random.normal(key, (3,), jnp.bfloat16)},
    }


def host(state):
    return [
        np.asarray(jax.random.key_data(leaf) if leaf is state["key"] else leaf)
        for leaf in jax.tree.leaves(state)
    ]


def same(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(host(a), host(b), strict=True))


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """A folder with the checkpoints of `make_state(2)` and `make_state(4)`."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    with checkpoint.open_checkpoints(folder) as manager:
        for step in (2, 4):
            checkpoint.save(manager, step, make_state(step), {"seconds": step / 7})
    return folder


def restore(folder):
    """What is restored, and the warnings of l2ljax on the way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with checkpoint.open_checkpoints(folder) as manager:
            found = checkpoint.restore(manager, make_state(0))
    return found, [str(w.message) for w in caught if "went on from" in str(w.message)]


def test_round_trip(two_checkpoints):
    """The newest, to the last bit, with what was said beside it."""
    (state, extra), told = restore(two_checkpoints)
    assert same(state, make_state(4))
    assert extra == {"seconds": 4 / 7}
    assert not told


def test_every_file_of_a_checkpoint_may_be_damaged(two_checkpoints, tmp_path):
    """The damage has no effect, or the checkpoint before is taken and a sentence tells so."""
    draw, outcomes = random.Random(0), []
    files = [path for path in sorted((two_checkpoints / "4").rglob("*")) if path.is_file()]
    for path in files:
        for name, damage in DAMAGES.items():
            folder = tmp_path / f"{len(outcomes)}" / "checkpoints"
            shutil.copytree(two_checkpoints, folder)
            damage(folder / path.relative_to(two_checkpoints), draw)
            (state, extra), told = restore(folder)
            went_back = not same(state, make_state(4))
            outcomes.append((path.name, name, went_back))
            if not went_back:
                assert extra == {"seconds": 4 / 7}
                assert not told, outcomes[-1]
                continue
            assert same(state, make_state(2)), outcomes[-1]
            assert extra == {"seconds": 2 / 7}
            assert len(told) == 1
            assert "\n" not in told[0]
            assert told[0].startswith(f"Checkpoint 4 in {folder} is damaged: ")
            assert (folder.parent / "damaged" / "4").is_dir()
            assert [p.name for p in folder.iterdir() if p.is_dir()] == ["2"]
    noticed = {file for file, _, went_back in outcomes if went_back}
    assert {"metadata", "_METADATA", "manifest.ocdbt"} < noticed
    assert len(noticed) < len(files)  # some hold nothing that is read


def test_a_flipped_number_is_noticed(two_checkpoints, tmp_path):
    """One bit of one array, where no file format has a checksum of its own."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_checkpoints, folder)
    content = json.loads((folder / "4/extra/metadata").read_text())
    content["leaves"]["large/0"][2] = "0" * 64  # as if another array had been saved
    content.pop("seal")
    content["seal"] = seal_json(content)
    (folder / "4/extra/metadata").write_text(json.dumps(content))
    (state, _), told = restore(folder)
    assert same(state, make_state(2))
    assert "the array large/0 in its folder state is not what was saved" in told[0]


def test_without_a_whole_checkpoint_the_run_does_not_start_over(two_checkpoints, tmp_path):
    """It is refused, and nothing is moved."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_checkpoints, folder)
    for step in (2, 4):
        (folder / f"{step}/extra/metadata").write_text("{}")
    with pytest.raises(DamagedCheckpointError, match=r"and no other checkpoint there is whole"):
        restore(folder)
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["2", "4"]
    assert not (tmp_path / "damaged").exists()


def write(folder, content):
    """A checkpoint of any content, by Orbax alone."""
    handlers = {"state": ocp.StandardCheckpointHandler(), "extra": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(folder, item_handlers=handlers) as manager:
        state = ocp.args.StandardSave(make_state(7))
        manager.save(7, args=ocp.args.Composite(state=state, extra=ocp.args.JsonSave(content)))


@pytest.mark.parametrize("number", [1, 3])
def test_another_format_is_refused(tmp_path, number):
    """With what to do; format 1 had no seal."""
    content = {"format": number, "anything": []}
    seal = {} if number == 1 else {"seal": seal_json(content)}
    write(tmp_path / "checkpoints", content | seal)
    words = f"has format {number}, this version of l2ljax reads format 2; continue it with"
    with pytest.raises(ValueError, match=words):
        restore(tmp_path / "checkpoints")


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
    with (
        checkpoint.open_checkpoints(two_checkpoints) as manager,
        pytest.raises(ValueError, match=words),
    ):
        checkpoint.restore(manager, make_state(0) | change)


def test_a_run_whose_newest_checkpoint_is_damaged_ends_as_if_it_were_not(tmp_path):
    """The updates since the one before are made again: same weights and history, bit for bit."""
    whole = train(4, workdir=tmp_path / "whole", checkpoint_every=1)
    train(3, workdir=tmp_path / "run", checkpoint_every=1)
    (tmp_path / "run/checkpoints/3/extra/metadata").unlink()
    with pytest.warns(UserWarning, match="went on from checkpoint 2 instead"):
        resumed = train(4, workdir=tmp_path / "run", checkpoint_every=1)
    assert resumed.history == whole.history
    weights = zip(
        *map(jax.tree.leaves, (whole.last_meta_params, resumed.last_meta_params)), strict=True
    )
    assert all(a.tobytes() == b.tobytes() for a, b in weights)
