"""The archives that are published: built, whole, described, and installed alone."""

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from matrix import QUICK, ROOT, SUPPORTED

import l2ljax

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The sdist, and the wheel that is built from it, as publishing makes them."""
    for tool in ("build", "hatchling", "hatch_fancy_pypi_readme", "twine"):
        pytest.importorskip(tool, reason="release tools are in the extra l2ljax[release]")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.mark.slow
def test_archives_are_what_pypi_takes(archives):
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *map(str, archives)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASSED") == 2


@pytest.mark.slow
def test_the_description_points_to_nothing_that_is_not_there(archives):
    """PyPI has none of README's files: no link is relative, and none is lost without a word."""
    with zipfile.ZipFile(archives[1]) as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        found = Parser().parsestr(wheel.read(name).decode())
    description = found.get_payload()
    assert isinstance(description, str)
    assert "# l2ljax" in description
    assert all(to.startswith(("https://", "#")) for to in LINK.findall(description))
    relative = [to for to in LINK.findall(README) if not to.startswith(("http", "#"))]
    assert relative
    assert all(f"`{to}`" in description for to in relative)
    assert found["Version"] == l2ljax.__version__


@pytest.mark.slow
def test_archives_are_whole(archives):
    """Weights, configurations and the type marker in both; documents in the sdist; no figures."""
    with tarfile.open(archives[0]) as sdist, zipfile.ZipFile(archives[1]) as wheel:
        source = {name.partition("/")[2] for name in sdist.getnames()}
        packaged = set(wheel.namelist())
    weights = [f"l2ljax/bundled/weights/{n}.safetensors" for n in l2ljax.pretrained_names()]
    assert {*weights, "l2ljax/py.typed"} <= source & packaged
    configs = {path.name for path in (ROOT / "configs").glob("*.py")}
    assert {f"l2ljax/configs/{name}" for name in configs} <= packaged
    assert {"docs/use.md", "tests/conftest.py", "CONTRIBUTING.md", "Makefile"} <= source
    assert not any(name.startswith("docs/results/") for name in source)
    assert not any(name.startswith(("tests/", "docs/", "scripts/")) for name in packaged)


@pytest.mark.long
def test_readmes_first_example_runs_from_the_wheel_alone(archives, tmp_path):
    """In an empty folder, without the clone on any path."""
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    subprocess.run([*pip, str(archives[1])], check=True, capture_output=True)
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    spec = importlib.util.find_spec("jax")
    assert spec is not None
    assert spec.origin is not None
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    path = f"{target}{os.pathsep}{Path(spec.origin).parents[1]}"
    quick = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"{code}\nprint(l2ljax.__file__)"],
        cwd=tmp_path, env=clean | quick | {"PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("loss after 100 steps: 0.")
    assert Path(done.stdout.split()[-1]).is_relative_to(target)


@pytest.mark.long
@pytest.mark.parametrize("extra", ["", *PROJECT["optional-dependencies"]])
def test_an_extra_resolves(extra):
    """pip finds releases of all that it asks for which fit together. Needs the network."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    wanted = f"{ROOT}[{extra}]" if extra else str(ROOT)
    done = subprocess.run([*command, wanted], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_and_pictures_are_there(page):
    """A relative one is a file; an anchor is a heading of its page."""
    links = [to for to in LINK.findall((ROOT / page).read_text()) if not to.startswith("http")]
    assert links
    for to in links:
        file, _, anchor = to.partition("#")
        target = ROOT / (file or page)
        assert target.exists(), to
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor else []
        slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
        assert not anchor or anchor in slugs, to


def test_pythons_are_the_same_everywhere():
    """Classifiers, the lower bound, the matrix on a machine and that of the public forge."""
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if ":: Python :: 3." in c]
    assert tuple(named) == SUPPORTED
    assert PROJECT["requires-python"] == f">={SUPPORTED[0]}"
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    listed = ", ".join(f'"{version}"' for version in SUPPORTED)
    assert f"python: [{listed}]" in workflow
    assert "- run: .ci/run" in workflow


def test_the_quick_matrix_names_files_that_are_there():
    assert all((ROOT / name).is_file() for name in QUICK)
