"""A short version of `make fuzz`, and what a file could do if it were more than data."""

import ast
from pathlib import Path

import pytest
from fuzz import fuzz

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
SOURCES = [p for folder in ("l2ljax", "scripts", "configs") for p in (ROOT / folder).rglob("*.py")]


@pytest.mark.slow
def test_bad_input_is_refused_in_one_sentence(tmp_path):
    """Every case is explained, and of each kind there are some."""
    tally = fuzz(seed=1, configs=40, runs=1, files=12, folder=tmp_path)
    assert tally.unexplained == []
    assert tally.counts["configurations"]["refused"] > 10
    assert tally.counts["weights, damaged"]["refused"] > 0
    assert tally.counts["checkpoints"]["went back"] > 0
    assert tally.counts["configs/, small"].keys() == {"works"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_can_run_code(path):
    """Nothing unpickles, evaluates or runs a shell: data from a stranger is only data."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not FORBIDDEN & {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in FORBIDDEN
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "compile", "__import__", "os.system"}
            keywords = {k.arg: k.value for k in node.keywords}
            if called in {"np.load", "numpy.load"}:
                assert ast.unparse(keywords["allow_pickle"]) == "False"
            assert "shell" not in keywords
