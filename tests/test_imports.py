"""The layers of the package, and what importing it must not load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import l2ljax

PACKAGE = Path(l2ljax.__file__).parent
LAYERS = [  # rooms and wings; each imports only from those before it
    "words",
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
]
FILES = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


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
