"""The layers of the package, and what importing it must not load."""

import ast
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


def test_import_is_light():
    """`import l2ljax` loads no data-set, plotting or checkpoint library."""
    heavy = [
        "tensorflow",
        "tensorflow_datasets",
        "matplotlib",
        "sklearn",
        "skimage",
        "ml_collections",
        "absl.app",
        "scipy.special",
    ]
    code = f"import sys, l2ljax; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert out.stdout.strip() == "[]"


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
