"""Runs the tests with the oldest supported libraries and with the newest, on one or two Pythons.

    python tests/release/matrix.py --quick

Oldest are the lower bounds of pyproject.toml, newest what pip installs. For each, and for Python
3.11 and the newest other Python found, makes a virtual environment under `--folder`, installs, runs
the tests (`-k` selects), and prints a table with the reason of what failed. Exits 1 if any did.
On the newer Python the oldest are those of JAX, Flax, Optax, Chex and Orbax: older releases of the
others have no packages for it.
"""

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SHOWN = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
QUICK = (
    "tests/optimizers/test_transform.py",
    "tests/estimators/test_truncated_bptt.py",
    "tests/training/test_meta_train.py",
    "tests/storage/test_checkpoint.py",
    "tests/test_unroll.py",
    "tests/test_deprecations.py",
)
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
OLDEST, NEWER = SUPPORTED[0], SUPPORTED[:0:-1]
JAX = ("jax", "flax", "optax", "chex")
TOOLS = ("axe", "playwright", "pre-commit", "pyright", "pytest-xdist", "ruff")  # left out here


class Outcome(NamedTuple):
    """One environment: what it was, what it held, and how the tests ended."""

    python: str
    libraries: str
    versions: dict[str, str]
    passed: bool
    reason: str


def lower_bounds(project: str, only: tuple[str, ...] | None = None) -> list[str]:
    """Requirements in pyproject.toml's text, pinned to their lower bounds, pytest's included.

    Args:
        project: the text.
        only: names to pin, the others stay as they are; default: all.

    Example:
        >>> text = '[project]\\ndependencies = ["jax>=0.9.0", "numpy>=2.0"]'
        >>> text += '\\n[project.optional-dependencies]\\nplots = ["matplotlib>=3.9"]'
        >>> text += '\\ndev = ["pytest>=8", "ruff>=1"]'
        >>> lower_bounds(text)
        ['jax==0.9.0', 'numpy==2.0', 'matplotlib==3.9', 'pytest==8']
        >>> lower_bounds(text, only=("jax",))
        ['jax==0.9.0', 'numpy>=2.0', 'matplotlib>=3.9', 'pytest>=8']
    """
    found = tomllib.loads(project)["project"]
    extras = found["optional-dependencies"]
    needed = [*found["dependencies"], *extras["plots"], *extras["dev"]]
    needed = [n for n in needed if not n.startswith(("l2ljax", *TOOLS))]
    names = [requirement.partition(">=")[0] for requirement in needed]
    return [
        requirement.replace(">=", "==") if only is None or name in only else requirement
        for name, requirement in zip(names, needed, strict=True)
    ]


def find_python(version: str) -> str | None:
    """The executable of a Python such as "3.13", on PATH or of pyenv, that runs; or `None`."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for path in [shutil.which(f"python{version}"), *pyenv.glob(f"{version}.*/bin/python")]:
        if path and not subprocess.run([path, "-c", ""], capture_output=True).returncode:
            return str(path)
    return None


def pythons(wanted: list[str] | None) -> dict[str, str]:
    """Version -> executable: those wanted, or 3.11 and the newest other one there is."""
    found = {version: find_python(version) for version in wanted or [OLDEST]}
    for version in [version for version, path in found.items() if path is None]:
        print(f"There is no Python {version} on this machine; it is left out.")
    if not wanted:
        newer = ((version, find_python(version)) for version in NEWER)
        found |= dict(itertools.islice(((v, path) for v, path in newer if path), 1))
        if len(found) == 1:
            print(f"There is none of Python {', '.join(NEWER)} on this machine: {OLDEST} alone.")
    return {version: path for version, path in found.items() if path}


def install(version: str, python: str, environment: Path, libraries: str) -> str:
    """Makes a virtual environment with the libraries; returns why it failed, or nothing."""
    if not (environment / "bin" / "python").exists():
        subprocess.run([python, "-m", "venv", str(environment)], check=True)
    project = (ROOT / "pyproject.toml").read_text()
    if libraries == "oldest":
        needed = lower_bounds(project, only=None if version == OLDEST else JAX)
    else:
        needed = ["--upgrade", *lower_bounds(project, only=())]
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    done = subprocess.run([*pip, *needed], capture_output=True, text=True)
    if not done.returncode:
        return ""
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith("WARNING")]
    errors = [line for line in lines if line.startswith("ERROR")]
    return f"pip: {(errors or lines or ['failed'])[-1]}"


def versions(environment: Path) -> dict[str, str]:
    """Of the libraries that are shown."""
    code = "import importlib.metadata as m, sys; print(*[m.version(n) for n in sys.argv[1:]])"
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-c", code, *SHOWN],
        capture_output=True, text=True,
    )  # fmt: skip
    return dict(zip(SHOWN, done.stdout.split(), strict=False))


def run_tests(environment: Path, options: argparse.Namespace) -> str:
    """Runs them; returns why they failed, or nothing."""
    files = QUICK if options.quick else ()
    chosen = ["-k", options.k] if options.k else []
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-m", "pytest", "-p", "no:cacheprovider",
         "--tb=line", *chosen, *files],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode == 0:
        return ""
    print(done.stdout[-4000:] + done.stderr[-2000:])
    failures = re.findall(r"^(?:FAILED|ERROR) (.*)$", done.stdout, re.MULTILINE)
    return f"{len(failures)} failed: {failures[0]}" if failures else f"exit code {done.returncode}"


def table(outcomes: list[Outcome]) -> str:
    """One line an environment; the reasons below."""
    lines = [["python", "libraries", *SHOWN, "tests"]]
    for one in outcomes:
        shown = [one.versions.get(name, "-") for name in SHOWN]
        lines.append([one.python, one.libraries, *shown, "passed" if one.passed else "FAILED"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    reasons = [f"{o.python}, {o.libraries}: {o.reason}" for o in outcomes if not o.passed]
    return "\n".join([*rows, *reasons])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", action="append", help='such as "3.12"; may be repeated')
    parser.add_argument("--libraries", choices=["oldest", "newest"], action="append")
    parser.add_argument("--folder", type=Path, help="of the environments; default: a temporary one")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("-k", help="as pytest's")
    options = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as temporary:
        for version, python in pythons(options.python).items():
            for libraries in options.libraries or ["oldest", "newest"]:
                print(f"Python {version}, {libraries} libraries ...", flush=True)
                environment = (options.folder or Path(temporary)) / f"{version}-{libraries}"
                reason = install(version, python, environment, libraries)
                reason = reason or run_tests(environment, options)
                found = versions(environment)
                outcomes.append(Outcome(version, libraries, found, not reason, reason))
    print(table(outcomes))
    return 0 if outcomes and all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
