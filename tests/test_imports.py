"""The layers of the package, and what importing it must not load."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import l2ljax

PACKAGE = Path(l2ljax.__file__).parent
LAYERS = [  # rooms and wings; each imports only from those before it
    "base",
    "checks",
    "specification",
    "parallel",
    "unrolling",
    "optimizers",
    "tasks",
    "storage",
    "estimators",
    "training",
    "evaluation",
    "bundled",
    "experiments",
    "paper",
    "command",
]
DOORS = [PACKAGE / "__init__.py", PACKAGE / "__main__.py"]  # `import l2ljax`, `python -m l2ljax`
FILES = [path for path in PACKAGE.rglob("*.py") if path not in DOORS]


def layer_of(module):
    return LAYERS.index(module.split(".")[1])


def imports_of(path):
    """Names of the package's modules that a file imports, at any level."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("l2ljax"):
            inner = node.module.count(".") > 0
            yield from [node.module] if inner else [f"l2ljax.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("l2ljax."))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    """A module imports only from layers above its own, or from its own folder."""
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imports_of(path):
        assert module.split(".")[1] == own or layer_of(module) < LAYERS.index(own), module


def test_every_module_has_a_layer():
    """None left out, none that is gone."""
    found = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert found == set(LAYERS)


FRESH = """
import importlib, json, pickle, sys, tempfile

sys.modules["fcntl"] = None  # as on Windows
import jax, flax, optax

before, seen = set(sys.modules), {}
import l2ljax

seen["imported"] = sorted(set(sys.modules) - before)
seen["all modules"] = sorted(sys.modules)
l2ljax.pretrained("lstm-mnist").init(jax.numpy.ones(3))
seen["used"] = sorted(set(sys.modules) - before)
lock, seen["alone"] = tempfile.mkdtemp(), False
with l2ljax.workdir.exclusive(lock):
    try:
        l2ljax.workdir.exclusive(lock).__enter__()
    except BlockingIOError:
        seen["alone"] = True
seen["not listed"] = sorted(set(l2ljax.__all__) - set(dir(l2ljax)))
seen["a wing's"] = l2ljax.training.meta_step.__module__
named = {name: getattr(l2ljax, name) for name in reversed(l2ljax.__all__)}
homes = {name: importlib.import_module(module) for name, module in l2ljax._HOME.items()}
seen["elsewhere"] = [n for n, home in homes.items() if getattr(home, n) is not named[n]]
wings = {name: getattr(l2ljax, name) for name in l2ljax._WINGS}
seen["other wings"] = [n for n in wings if wings[n] is not sys.modules[f"l2ljax.{n}"]]
seen["pickled"] = pickle.loads(pickle.dumps(l2ljax.evaluate)) is l2ljax.evaluate
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def fresh():
    """What a process sees that imports l2ljax, uses an optimizer, and then asks for all names."""
    out = subprocess.run(
        [sys.executable, "-c", FRESH],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    return json.loads(out.stdout)


def rooms_of(modules):
    return {name.split(".")[1] for name in modules if name.startswith("l2ljax.")}


def test_import_is_light(fresh):
    """Beyond jax, flax and optax it loads safetensors alone, and what using an optimizer takes."""
    assert {m.split(".")[0] for m in fresh["imported"]} <= {"l2ljax", "safetensors", "jax"}
    later = {"tasks", "estimators", "training", "evaluation", "experiments", "paper", "command"}
    assert rooms_of(fresh["imported"]) == set(LAYERS) - later
    heavy = {"tensorflow", "tensorflow_datasets", "matplotlib", "sklearn", "skimage", "absl.app"}
    heavy |= {"ml_collections", "rich.progress", "scipy.special"}
    assert heavy.isdisjoint(fresh["all modules"])


def test_a_system_without_fcntl_has_locks_of_its_own(fresh):
    """Windows: the package imports, and a second one in a directory is refused all the same."""
    assert fresh["alone"]


def test_using_a_learned_optimizer_loads_no_wing_that_trains(fresh):
    """The way of README's first example: its weights file's specification needs none either."""
    assert not rooms_of(fresh["used"]) & {"tasks", "estimators", "training", "evaluation"}


def test_each_wing_and_each_of_its_names_loads_when_first_asked_for(fresh):
    """Without an import of its own; each is the very object that its wing has."""
    assert fresh["not listed"] == []
    assert fresh["a wing's"] == "l2ljax.training.step"
    assert fresh["elsewhere"] == fresh["other wings"] == []
    assert fresh["pickled"]


def test_what_loads_later_is_what_readers_of_types_see():
    """The names of `_LATER` are those imported under `TYPE_CHECKING`, from the same modules."""
    (block,) = (
        node
        for node in ast.parse(DOORS[0].read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    wings = {name for name, module in seen.items() if module == "l2ljax"}
    assert {name: module for name, module in seen.items() if name not in wings} == l2ljax._HOME
    assert wings <= set(l2ljax._WINGS)


def test_a_name_that_is_none_is_refused_and_the_nearest_is_named():
    with pytest.raises(AttributeError, match="module 'l2ljax' has no attribute 'adpat'") as raised:
        _ = l2ljax.adpat
    assert raised.value.name == "adpat"
    assert "adapt" in dir(raised.value.obj)  # of which Python names the nearest
    assert not hasattr(l2ljax, "BUILDERS")


def test_public_names_exist():
    """`__all__` and the package agree, and the names that users rely on are there."""
    assert all(hasattr(l2ljax, name) for name in l2ljax.__all__)
    promised = [
        "LearnedOptimizer",
        "Task",
        "GradientEstimator",
        "lstm",
        "CoordinatewiseLSTM",
        "scale_by_lstm",
        "partition",
        "log_sign",
        "identity",
        "OptimizeeState",
        "init_optimizee",
        "unroll",
        "evaluate",
        "tune",
        "truncated_bptt",
        "meta_train",
        "MetaTrainResult",
        "load_pretrained",
        "pretrained_names",
        "tasks",
        "load_dataset",
    ]
    assert set(promised) <= set(l2ljax.__all__)


ROOT = PACKAGE.parent
LONGEST_FILE, LONGEST_FUNCTION, MOST_ROOMS = 300, 60, 18
SOURCES = [
    path
    for folder in ("l2ljax", "scripts", "configs", "benchmarks", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


@pytest.mark.skipif(not (ROOT / "scripts").is_dir(), reason="an installed package alone")
def test_files_fit_in_a_head():
    """A file is one idea, 300 lines at most."""
    long = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in SOURCES}
    assert {name: n for name, n in long.items() if n > LONGEST_FILE} == {}


def lines_of(function):
    """Of a function without its docstring."""
    text = ast.get_docstring(function, clean=False)
    docstring = text.count("\n") + 1 if text else 0
    return function.end_lineno - function.lineno + 1 - docstring


def test_functions_fit_on_a_page():
    long = {
        f"{path.relative_to(PACKAGE)}:{node.name}": lines_of(node)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and lines_of(node) > LONGEST_FUNCTION
    }
    assert long == {}


def test_a_listing_of_the_package_fits_a_glance():
    entries = [p for p in PACKAGE.iterdir() if p.name != "__pycache__" and p not in DOORS[1:]]
    assert len(entries) <= MOST_ROOMS


def test_every_wing_says_what_it_is():
    for wing in (path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()):
        assert ast.get_docstring(ast.parse((wing / "__init__.py").read_text())), wing.name


def test_no_module_bears_the_name_of_a_public_function():
    """`import l2ljax.evaluation` gives a module, and so does every other path of a module."""
    for path in FILES:
        names = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if names[-1] in ("__init__", "__main__"):
            continue
        init = path.parent / "__init__.py"
        exported = {
            alias.asname or alias.name
            for node in ast.walk(ast.parse(init.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module != ".".join(names[:-1])
            for alias in node.names
        }
        assert names[-1] not in exported, ".".join(names)


def test_the_picture_of_the_architecture_is_true():
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "architecture.py"), "--check"])
    assert done.returncode == 0
