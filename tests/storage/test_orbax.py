"""Checkpoints of formats before this one: read through Orbax, or refused."""

import json
import sys

import jax
import pytest
from states import make_state, restore

from l2ljax.base.words import named_leaves
from l2ljax.parallel import on_host
from l2ljax.storage import checkpoint
from l2ljax.storage.checkpoint import DamagedCheckpointError
from l2ljax.storage.seal import seal, seal_json


def write_orbax(folder, content):
    """A checkpoint of any content, by Orbax alone."""
    ocp = pytest.importorskip("orbax.checkpoint")
    handlers = {"state": ocp.StandardCheckpointHandler(), "extra": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(folder, item_handlers=handlers) as manager:
        state = {n: v for n, v in make_state(7).items() if n != "small"}
        state = ocp.args.StandardSave(state)
        manager.save(7, args=ocp.args.Composite(state=state, extra=ocp.args.JsonSave(content)))


@pytest.mark.parametrize("number", [1, 4])
def test_another_format_is_refused(tmp_path, number):
    """With what to do; format 1 had no seal."""
    content = {"format": number, "anything": []}
    seal = {} if number == 1 else {"seal": seal_json(content)}
    write_orbax(tmp_path / "checkpoints", content | seal)
    words = f"has format {number}, this version of l2ljax reads formats 2 and 3; continue it with"
    with pytest.raises(ValueError, match=words):
        restore(tmp_path / "checkpoints")


@pytest.fixture
def of_orbax(tmp_path):
    """A checkpoint of format 2."""
    like = {n: v for n, v in make_state(7).items() if n != "small"}
    leaves = {n: seal(on_host(leaf)) for n, leaf in named_leaves(like).items()}
    content = {"format": 2, "extra": {"seconds": 1.5}, "leaves": leaves}
    write_orbax(tmp_path / "checkpoints", content | {"seal": seal_json(content)})
    return tmp_path / "checkpoints", like


def test_the_format_before_is_read_and_removed_in_its_turn(of_orbax):
    """Its arrays to the last bit; the next two checkpoints take its place."""
    folder, like = of_orbax
    found = checkpoint.load(folder)
    state = checkpoint.place(found, like)
    assert found.extra == {"seconds": 1.5}
    assert all(
        x.tobytes() == y.tobytes()
        for x, y in zip(
            map(on_host, jax.tree.leaves(state)), map(on_host, jax.tree.leaves(like)), strict=True
        )
    )
    for step in (8, 9):
        checkpoint.save(folder, step, state, {})
    assert list(checkpoint.steps(folder)) == [8, 9]
    assert not (folder / "7").exists()


def test_the_format_before_may_be_damaged(of_orbax):
    """Refused, with the part that is not what was saved."""
    folder, _ = of_orbax
    content = json.loads((folder / "7/extra/metadata").read_text())
    content["leaves"]["large/0"][2] = "0" * 64
    content.pop("seal")
    (folder / "7/extra/metadata").write_text(json.dumps(content | {"seal": seal_json(content)}))
    with pytest.raises(DamagedCheckpointError, match="the array large/0 is not what was saved"):
        checkpoint.load(folder)


def test_the_format_before_without_orbax(of_orbax, monkeypatch):
    """One sentence: what to install."""
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install .orbax-checkpoint"):
        checkpoint.load(of_orbax[0])
