"""Builders, functions and labels in files of one's own: named, saved, and found again."""

import importlib.util
import os
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_builders import OWN, updates

import l2ljax
from l2ljax.bundled import load_optimizer, save_optimizer
from l2ljax.optimizers import build
from l2ljax.specification import names

KEY = jax.random.key(0)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A file of one's own in the directory where one works."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    return "own.py"


def test_a_reloaded_module_makes_new_values(tmp_path, monkeypatch):
    """The old builder's name finds the new one, so the old has none; partitions do not mix them."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "reloaded_part.py").write_text(OWN)
    module = importlib.import_module("reloaded_part")
    old_builder, old = module.scaled, module.scaled(2.0)
    assert old.specification["name"] == "reloaded_part:scaled"
    before = l2ljax.partition({"a": old}, {"x": "a"})
    (tmp_path / "reloaded_part.py").write_text(OWN.replace("squash(u) *", "7 * squash(u) *"))
    importlib.reload(module)
    assert old_builder(3.0).specification is None
    after = l2ljax.partition({"a": module.scaled(2.0)}, {"x": "a"})
    phi = {"a": {"by": jnp.ones(())}}
    one, seven = (updates(o, phi, {"x": jnp.ones(1)})["x"][0] for o in (before, after))
    assert (float(one), float(seven)) == (1.0, 7.0)


def test_partitions_are_saved_with_labels_of_every_kind(own, tmp_path):
    """By the name of the list, a function of one's own, a function in a module, a tree."""
    find = names.find
    members = {"a": l2ljax.lstm((2,)), "b": find("own.py:scaled")(3.0)}
    gradient = {"w": jnp.ones(2), "v": jnp.ones(3)}
    for labels in (find("own.py:by_name"), {"w": "a", "v": "b"}):
        optimizer = l2ljax.partition(members, labels)
        phi = optimizer.init(KEY)
        save_optimizer(tmp_path / "w.safetensors", optimizer, phi)
        loaded, loaded_phi, _ = load_optimizer(tmp_path / "w.safetensors")
        found, expected = updates(loaded, loaded_phi, gradient), updates(optimizer, phi, gradient)
        chex.assert_trees_all_equal(found, expected)
        np.testing.assert_array_equal(found["v"], 3.0)
    conv_fc = l2ljax.partition({"conv": members["a"]}, l2ljax.optimizers.conv_fc_labels)
    assert conv_fc.specification["labels"] == "conv_fc"
    plain = {"name": "partition", "optimizers": {"conv": {"name": "lstm", "hidden_sizes": [2]}}}
    assert build(plain | {"labels": "conv_fc"}) is conv_fc
    named = build(plain | {"labels": "own.py:by_name"})
    assert named.specification["labels"] == {"function": "own.py:by_name"}
    for odd in (("conv",), "conv"):  # would come back as a list, or as a name
        assert l2ljax.partition({"conv": members["a"]}, odd).specification is None


def test_own_builders_with_members_are_built_from_plain_data(own):
    """A learned optimizer, a function and a dtype among the arguments of a builder in a file."""
    plain = {
        "name": "own.py:scaled",
        "factor": 0.25,
        "inner": {"name": "lstm", "hidden_sizes": [2], "preprocess": {"name": "identity"}},
        "squash": {"function": "own.py:twice"},
        "dtype": "bfloat16",
    }
    optimizer = build(plain)
    assert build(plain) is optimizer
    phi = optimizer.init(KEY)
    assert phi["by"].dtype == jnp.bfloat16
    inner = updates(l2ljax.lstm((2,), l2ljax.identity()), phi["inner"])
    np.testing.assert_allclose(updates(optimizer, phi), 2 * 0.25 * inner, rtol=1e-6)
    bare = build({"name": "own.py:undecorated", "factor": 0.5})
    assert bare.specification == {"name": "own.py:undecorated", "factor": 0.5}
    for bad, words in {
        "own.py:missing": "has no attribute 'missing'",
        "own.py:twice": "missing a required argument: 'x'",
        "gone.py:scaled": "names code of your own that is not at hand",
        "no_such_module_:scaled": "names code of your own that is not at hand",
        "subprocess:run": "is no builder of one but",
        "builtins:dict": "is no builder of one but",
        ":scaled": "is no name of code",
    }.items():
        with pytest.raises(ValueError, match=words) as error:
            build({"name": bad})
        assert "\n" not in str(error.value)


def test_a_file_that_fails_is_a_sentence(tmp_path, monkeypatch):
    """Whatever its code raises."""
    monkeypatch.chdir(tmp_path)
    for number, code in enumerate(["def f(:", "1 / 0", "raise RuntimeError('no\\nway')"]):
        (tmp_path / f"bad{number}.py").write_text(code)
        with pytest.raises(ValueError, match=r"running the code of .* failed") as error:
            names.find(f"bad{number}.py:f")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_module_", "ModuleNotFoundError: No module named 'no_such_module_'"),
        ("from math import no_such_", "ImportError: cannot import name 'no_such_'"),
        ("open('gone.txt')", "FileNotFoundError: .*gone.txt"),
    ],
)
def test_what_a_files_code_lacks_is_not_the_file(tmp_path, monkeypatch, code, reason):
    """As a file, a module and one in a package: each is there, and what is wrong is in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lacking_pack").mkdir()
    for file in ("lacking_part.py", "lacking_pack/__init__.py"):
        (tmp_path / file).write_text(code)
    for place in ("lacking_part.py", "lacking_part", "lacking_pack.part"):
        words = f"running the code of {place} failed \\({reason}.*; mend it there"
        with pytest.raises(ValueError, match=words):
            names.find(f"{place}:f")


def test_a_place_that_is_not_there_is_said_to_be_missing(tmp_path, monkeypatch):
    """A file, a folder of that name, a module, and one of a package that is there or is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a_folder.py").mkdir()
    (tmp_path / "empty_pack_").mkdir()
    (tmp_path / "empty_pack_" / "__init__.py").touch()
    for place in ("gone.py", "a_folder.py", "gone_", "gone_.part", "empty_pack_.part", "math.part"):
        with pytest.raises(ValueError, match="code of your own that is not at hand"):
            names.find(f"{place}:f")


def test_a_module_that_no_path_leads_to_is_named_by_its_file(own, tmp_path, monkeypatch):
    """As ml_collections loads a configuration; the file is not run a second time here."""
    spec = importlib.util.spec_from_file_location("config_config", tmp_path / own)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "config_config", module)
    spec.loader.exec_module(module)
    assert names.name_of(module.twice) == "own.py:twice"
    assert names.find("own.py:twice") is module.twice
    assert module.scaled(2.0).specification["name"] == "own.py:scaled"


def test_files_find_their_neighbours(tmp_path):
    """As a script does; Python's path is as before."""
    (tmp_path / "a_neighbour.py").write_text("VALUE = 7")
    (tmp_path / "main_part.py").write_text("import a_neighbour\ndef f(): return a_neighbour.VALUE")
    before = list(sys.path)
    assert names.find(f"{tmp_path}/main_part.py:f")() == 7
    assert sys.path == before


def test_a_script_saves_and_another_process_loads(own, tmp_path):
    """Builders of a script are named by its file; where that is not at hand, a sentence."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"
    }  # fmt: skip
    script = [sys.executable, own, "w.safetensors"]
    out = subprocess.run(
        script, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    assert out.stdout.strip() == "own.py:scaled"
    optimizer, phi, metadata = load_optimizer("w.safetensors")
    assert metadata["optimizer"]["squash"] == {"function": "own.py:twice"}
    expected = 2 * 0.5 * updates(l2ljax.lstm((2,)), phi["inner"])
    np.testing.assert_allclose(updates(optimizer, phi), expected, rtol=1e-6)
    (tmp_path / "w.safetensors").rename(tmp_path / "v.safetensors")
    (tmp_path / own).rename(tmp_path / "moved.py")
    sys.modules.pop(optimizer.transform.__module__)
    with pytest.raises(ValueError, match=r"v.safetensors names an optimizer that cannot be built"):
        load_optimizer("v.safetensors")
