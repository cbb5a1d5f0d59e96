"""CONTRIBUTING's three recipes, followed literally in a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
RECIPES = re.findall(
    r"`(l2ljax/\w+/_\w+\.py)`:\n\n```python\n(.*?)```\n\n"
    r"In `(\w+)` in `(\S+)`: `(.*?)`\nIn `(\w+)` in `(\S+)`: `(.*?)`\nIt must pass (.*?)\n\n",
    PAGE,
    re.DOTALL,
)


CHECKS = """
import jax.numpy as jnp
import l2ljax
{imported}
task, optimizer = l2ljax.tasks.quadratic(2), l2ljax.lstm((2,))
params = {{"w": jnp.ones((3, 2))}}
{check}
"""


def add_line(file: Path, name: str, line: str, imported: str) -> None:
    """`line` as the first of the dict `name`, and the import that it needs."""
    text = file.read_text()
    opened = re.search(rf"^{name}\b.*= {{$", text, re.MULTILINE)
    assert opened, f"no dict {name} in {file}"
    text = text[: opened.end()] + f"\n    {line}" + text[opened.end() :]
    first = re.search(r"^(import|from) ", text, re.MULTILINE)
    assert first
    file.write_text(text[: first.start()] + imported + "\n" + text[first.start() :])


def test_there_is_a_recipe_for_each_kind():
    assert [Path(recipe[0]).parent.name for recipe in RECIPES] == [
        "tasks",
        "optimizers",
        "estimators",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=[r[0] for r in RECIPES])
def test_a_recipe_ends_with_its_contract_suite_green(recipe, tmp_path):
    file, code, list_, builders, line, cases, suite, case, must_pass = recipe
    for folder in ("l2ljax", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pyc*"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / file).write_text(code)
    name = Path(file).stem.removeprefix("_")
    imported = f"from {file.removesuffix('.py').replace('/', '.')} import {name}"
    add_line(tmp_path / builders, list_, line, imported)
    add_line(tmp_path / suite, cases, case, imported)
    suites = re.findall(r"`(tests/\S+?\.py)`", must_pass)
    checks = re.findall(r"`(l2ljax\.check_\w+\(.*?\))`", must_pass, re.DOTALL)
    assert suites[0] == suite or len(suites) > 1
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-n0", "-m", "not long"]
    done = run([*pytest_, *suites, "-k", name], tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\d+ deselected|\[100%\]", done.stdout)
    for check in checks:
        done = run([sys.executable, "-c", CHECKS.format(imported=imported, check=check)], tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]


def run(words, folder):
    return subprocess.run(
        words,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
