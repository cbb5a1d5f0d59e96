"""`make test-matrix`: what it pins, what it finds, and that its table tells what failed."""

import platform
import sys
import tomllib

from matrix import JAX, ROOT, Outcome, find_python, lower_bounds, table

PROJECT = (ROOT / "pyproject.toml").read_text()


def test_every_dependency_has_a_lower_bound_to_test():
    """So that the oldest supported are known, each by name."""
    pins = lower_bounds(PROJECT)
    assert all(pin.count("==") == 1 and ">" not in pin for pin in pins)
    names = [requirement.partition(">=")[0] for requirement in
             tomllib.loads(PROJECT)["project"]["dependencies"]]  # fmt: skip
    assert set(names) < {pin.partition("==")[0] for pin in pins}
    assert set(JAX) < set(names)


def test_only_the_named_are_pinned():
    """On a newer Python, the JAX family; with none, what pip chooses."""
    pins = {pin.partition("=")[0].rstrip(">"): pin for pin in lower_bounds(PROJECT, only=JAX)}
    assert all(("==" in pin) == (name in JAX) for name, pin in pins.items())
    assert not any("==" in pin for pin in lower_bounds(PROJECT, only=()))


def test_a_python_is_found_where_it_runs(monkeypatch, tmp_path):
    """This one by a name on PATH, none by a name that only fails."""
    (tmp_path / "python9.9").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python9.8").symlink_to(sys.executable)
    (tmp_path / "python9.9").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert find_python("9.8") == str(tmp_path / "python9.8")
    assert find_python("9.9") is None
    own = tmp_path / "versions" / platform.python_version() / "bin"
    own.mkdir(parents=True)
    (own / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_python(platform.python_version().rpartition(".")[0]) == str(own / "python")


def test_the_table_tells_versions_and_reasons():
    """A line each, and below it why one failed."""
    text = table(
        [
            Outcome("3.11", "oldest", {"jax": "0.9.0"}, True, ""),
            Outcome("3.13", "newest", {}, False, "pip: no network"),
        ]
    )
    lines = text.splitlines()
    assert len(lines) == 4
    assert lines[1].split()[:3] == ["3.11", "oldest", "0.9.0"]
    assert lines[1].endswith("passed")
    assert lines[2].endswith("FAILED")
    assert lines[3] == "3.13, newest: pip: no network"
