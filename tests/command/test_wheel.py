"""The wheel alone, in an empty folder: what a user has after `pip install l2ljax`."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from l2ljax.command import config_names

ROOT = Path(__file__).parents[2]
TINY = [
    "--config.num_meta_updates=2",
    "--config.num_tasks=2",
    "--config.episode_length=4",
    "--config.unroll_length=2",
    "--config.validation.num_tasks=2",
    "--config.evaluation.num_tasks=3",
    "--config.evaluation.num_steps=4",
    "--config.evaluation.num_tuning_tasks=2",
]
OWN = """
import jax, jax.numpy as jnp, l2ljax

def bowl(width=2):
    return l2ljax.Task(
        init=lambda instance, key: jax.random.normal(key, (width,)),
        loss=lambda theta, batch: jnp.sum(theta**2),
    )
"""
OWN_CONFIG = """
from l2ljax.command import bundled_config

def small():
    config = bundled_config("demo")
    with config.ignore_type():
        config.task = {"name": "own:bowl", "width": 3}
        config.evaluation.learning_rates = dict.fromkeys(["sgd", "rmsprop", "adam", "nag"], 0.25)
    return config
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with nothing but what the wheel brings."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "wheel", str(ROOT), "--no-deps", "-w", str(folder)], capture_output=True, text=True
    )
    if done.returncode and "hatchling" in done.stderr:
        pytest.skip("pip cannot get hatchling, which builds the wheel")
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    install = [*pip, "install", str(wheel), "--no-deps", "--target", str(target)]
    subprocess.run(install, check=True, capture_output=True)
    return target


@pytest.fixture
def run(installed, tmp_path):
    """Runs Python in an empty folder, with the wheel's folder and that of the dependencies.

    Without `.pth` files (-S), by which the clone would be found.
    """
    dependencies = Path(importlib.util.find_spec("jax").origin).parents[1]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    path = {"PYTHONPATH": f"{installed}{os.pathsep}{dependencies}"}
    quick = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

    def run(*words, start=("-m", "l2ljax")):
        done = subprocess.run(
            [sys.executable, "-S", *start, *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=clean | path | quick,
            timeout=300,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.slow
def test_the_wheel_brings_everything(run, installed):
    """It is the wheel's own package that runs, with the clone's configurations."""
    code = "import l2ljax.command as c; print(c.__file__, *c.config_names())"
    _, out, err = run(start=("-c", code))
    file, *names = out.split() or [err]
    assert Path(file).is_relative_to(installed)
    assert names == config_names()
    for name in names:
        there = (installed / "l2ljax" / "configs" / f"{name}.py").read_bytes()
        assert there == (ROOT / "configs" / f"{name}.py").read_bytes()


@pytest.mark.slow
def test_a_bundled_configuration_trains_and_evaluates(run, tmp_path):
    """By its name; quiet where that is asked for; a second start has nothing to do."""
    code, out, err = run("train", "demo", "--workdir=x", *TINY)
    assert code == 0, err
    assert "Next: l2ljax evaluate --workdir=x" in out
    metadata = json.loads(run("inspect", "x/meta_params.safetensors", "--json")[1])["metadata"]
    assert metadata["command"].startswith("l2ljax train demo --workdir=x --config.num_meta_")
    code, out, err = run("train", "demo", "--workdir=x", *TINY, "--quiet")
    assert (code, out, err) == (0, "", "")
    code, out, err = run("evaluate", "--workdir=x")
    assert code == 0, err
    assert "Adam" in out
    summary = json.loads((tmp_path / "x" / "evaluation" / "summary.json").read_text())
    assert summary["num_tasks"] == 3
    assert (tmp_path / "x" / "evaluation" / "curves.csv").exists()
    code, out, err = run("report", "x")
    assert code == 0, err
    page = (tmp_path / "x" / "report.html").read_text()
    assert "Evaluation on quadratic" in page
    assert "l2ljax train demo --workdir=x" in page
    assert "plotly.js v" in page  # its scripts are inside
    code, out, err = run("plot", "x", "--out=x.svg")
    assert code == 0, err
    assert (tmp_path / "x.svg").read_text().startswith("<?xml")
    code, out, err = run("reproduce", "--figure=preprocessing", "--output=figures", "--quiet")
    assert (code, out) == (0, ""), err
    page = (tmp_path / "figures" / "report.html").read_text()
    assert re.search(r"l2ljax reproduce (<[^>]*>)?--figure=preprocessing", page)
    assert "(not measured yet)" in page  # what a clone has of deviations
    code, out, err = run("board", "--quick", "--optimizers=adam-1e-3,adam", "--tasks=gone")
    assert code == 2
    assert "there is no task 'gone'" in err


@pytest.mark.slow
def test_a_configuration_and_a_task_of_ones_own(run, installed, tmp_path):
    """In modules of the folder where one works, which the command `l2ljax` finds, too."""
    command = (str(installed / "bin" / "l2ljax"),)
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "my_configs.py").write_text(OWN_CONFIG)
    words = ("train", "my_configs:small", "--workdir=y", *TINY, "--config.task.width=2")
    code, out, err = run(*words, start=command)
    assert code == 0, err
    code, out, err = run("evaluate", "--workdir=y", "--quiet", "--output=out", start=command)
    assert (code, out) == (0, ""), err
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    rows = np.genfromtxt(tmp_path / "out" / "curves.csv", delimiter=",", names=True)
    # gradient descent on |theta|^2 with rate 1/4: each step multiplies the loss by (1 - 2/4)^2
    np.testing.assert_allclose(rows["sgd_mean"][1:] / rows["sgd_mean"][:-1], 0.25, rtol=1e-4)
    assert found["task"] == "own:bowl"
    (tmp_path / "own.py").unlink()
    code, _, err = run("evaluate", "--workdir=y")
    assert code == 2
    assert "own:bowl" in err
    assert "not at hand" in err
