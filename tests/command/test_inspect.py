"""`l2ljax inspect`: what it tells of a weights file."""

import hashlib
import json
import re
from pathlib import Path

import jax
import pytest
import safetensors.numpy

import l2ljax
from l2ljax.command import main

ROOT = Path(l2ljax.__file__).parents[1]
NAMES = l2ljax.pretrained_names()


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Runs a command line in an empty folder; its exit code, and what it says."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = main(words)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.mark.parametrize("name", NAMES)
def test_inspect_tells_what_the_file_holds(name, run):
    """Counted from the file by the library of its format, and its SHA-256 from its bytes."""
    path = ROOT / "l2ljax" / "bundled" / "weights" / f"{name}.safetensors"
    tensors = safetensors.numpy.load_file(path)
    code, text, _ = run("inspect", name, "--json")
    found = json.loads(text)
    assert code == 0
    assert found["bytes"] == path.stat().st_size
    assert found["file_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found["numbers"] == sum(tensor.size for tensor in tensors.values())
    shapes = {key: tuple(one["shape"]) for key, one in found["tensors"].items()}
    assert shapes == {key: tensor.shape for key, tensor in tensors.items()}
    assert found["metadata"]["optimizer"]["name"] == found["rule"]
    code, text, _ = run("inspect", str(path))
    assert code == 0
    assert found["file_sha256"] in text
    assert found["checksum"] is None or found["checksum"] in text


def test_inspect_prints_the_notes_of_a_card(run):
    """Every field that a user has added, once, in a form that no terminal obeys; lines too."""
    optimizer, meta_params = l2ljax.load_pretrained("lstm-mnist")
    notes = {
        "author": "Ada",
        "seeds": [1, 2],
        "license": None,
        "story": "x" * 1000,
        "two\nlines": "a\x1b[2Jb\nc",
        "fails": "on Mondays",
        "seconds": 90,
        "command": "python\x1b[2J",
    }
    l2ljax.save_optimizer("w.safetensors", optimizer, meta_params, notes)
    code, text, _ = run("inspect", "w.safetensors")
    assert code == 0
    lines = [line[12:] for line in text.splitlines() if line[:12].strip() in ("notes", "")]
    expected = [
        "author: Ada",
        "seeds: [1, 2]",
        "license: null",
        "story: " + "x" * 297 + "...",
        '"two\\nlines": "a\\u001b[2Jb\\nc"',
    ]
    assert sorted(line for line in lines if "params/" not in line) == sorted(expected)
    assert re.search(r"^fails +on Mondays$", text, re.MULTILINE)
    assert re.search(r"^took +90 s$", text, re.MULTILINE)
    assert "\x1b" not in text


def test_inspect_runs_no_code_and_notices_damage(run, tmp_path):
    """Somebody's own optimizer is named where its code is gone; a changed byte is told."""
    (tmp_path / "own.py").write_text(
        "import jax.numpy, l2ljax, optax\n"
        "def rule(rate=0.5):\n"
        "    return l2ljax.LearnedOptimizer(lambda key: jax.numpy.ones(3) * rate, optax.sgd)\n"
    )
    path = tmp_path / "w.safetensors"
    own = {"name": "own.py:rule", "rate": 0.25}
    l2ljax.save_optimizer(path, own, jax.numpy.ones(3), {"seconds": "odd", "evaluation": [1]})
    (tmp_path / "own.py").unlink()
    code, text, _ = run("inspect", "w.safetensors", "--json")
    found = json.loads(text)
    assert code == 0
    assert (found["code"], found["numbers"]) == (["own.py:rule"], 3)
    code, text, _ = run("inspect", "w.safetensors")
    assert "needs code  own.py:rule" in text
    assert "seconds: odd" in text  # what has no line of its own in another form
    assert "evaluation: [1]" in text
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    code, _, err = run("inspect", "w.safetensors")
    assert code == 2
    assert "damaged" in err
