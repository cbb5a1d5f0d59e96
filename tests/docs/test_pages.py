"""The documentation: its examples run, its command lines are taken, its lists are complete."""

import importlib
import inspect
import re
import runpy
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import l2ljax
from l2ljax.command.configs import config_names
from l2ljax.command.entry import COMMANDS
from l2ljax.command.overrides import split_overrides

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
PAGES = (
    "index",
    "start",
    "choose",
    "train-your-own",
    "write-an-optimizer",
    "write-an-estimator",
    "paper",
    "scaling",
    "gpu",
    "formats",
)
WINGS = (
    "l2ljax",
    "l2ljax.optimizers",
    "l2ljax.tasks",
    "l2ljax.tasks.transforms",
    "l2ljax.estimators",
    "l2ljax.training",
    "l2ljax.evaluation",
    "l2ljax.experiments",
    "l2ljax.bundled",
    "l2ljax.command",
    "l2ljax.unrolling",
    "l2ljax.specification",
    "l2ljax.parallel",
)
GROUND = ("l2ljax.command.", "l2ljax.unrolling.", "l2ljax.specification.", "l2ljax.parallel.")
"""Below the wings: documented, but not for everyday use, so without an example each."""


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # where a reader's own file would lie
    names = {"__name__": "page"}
    for block in PYTHON.findall((DOCS / f"{page}.md").read_text()):
        exec(compile(block, f"docs/{page}.md", "exec"), names)


def blocks_with(page, **names):
    """The names after all blocks of a page that goes on from what its reader has."""
    for block in PYTHON.findall((DOCS / f"{page}.md").read_text()):
        exec(compile(block, f"docs/{page}.md", "exec"), names)
    return names


def test_the_page_on_guards():
    """The loss |theta|^2 / 2: a learned rate of 0.002 is left alone."""
    optimizer, params = l2ljax.hyperparameters(optax.sgd, {"learning_rate": 0.002}), jnp.ones(2)
    meta_params = optimizer.init(jax.random.key(0))
    tx = l2ljax.guard(optimizer.transform(meta_params), optax.adam(1e-3))
    given = {"optimizer": optimizer, "meta_params": meta_params, "state": tx.init(params)}
    names = blocks_with(
        "guard", l2ljax=l2ljax, optax=optax, params=params, gradients=params, loss=1.0, **given
    )
    np.testing.assert_allclose(names["updates"], [-0.002, -0.002], rtol=1e-6)
    assert sum(names["state"].counts) == 0


def test_the_page_on_published_weights(tmp_path, monkeypatch):
    """As Celo2 is meant, a matrix moves by 0.01, root mean square, at the first step."""
    monkeypatch.chdir(tmp_path)
    numbers = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)  # features of each group
    shapes = {f"first_layer_weights.{i}": (8, n) for i, n in enumerate(numbers)}
    shapes |= {"first_layer_bias": (8,), "hidden.weight": (8, 8), "hidden.bias": (8,)}
    shapes |= {"output.weight": (3, 8), "output.bias": (3,)}
    normal = np.random.default_rng(0).normal
    np.savez("celo2.npz", **{n: normal(size=s).astype("float32") for n, s in shapes.items()})
    tx = blocks_with("published", l2ljax=l2ljax, optax=optax, jax=jax, num_steps=100)["tx"]
    params = {"kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)}
    gradients = {"kernel": jax.random.normal(jax.random.key(0), (4, 3)), "bias": jnp.ones(3)}
    updates, _ = tx.update(gradients, tx.init(params), params)
    rms = jnp.sqrt(jnp.mean(updates["kernel"] ** 2))
    np.testing.assert_allclose(rms, 0.01, rtol=1e-3)
    np.testing.assert_allclose(updates["bias"], -0.01, rtol=1e-3)  # Adam's first step


def test_all_command_lines_are_taken():
    """Every line of a block that begins with a command, whatever page it is on."""
    lines = [
        (page.name, line)
        for page in sorted(DOCS.glob("*.md"))
        for line in re.findall(
            r"^(?:srun )?l2ljax (.*)$", page.read_text().replace("\\\n", ""), re.MULTILINE
        )
    ]
    assert len(lines) > 20
    for page, line in lines:
        command, *words = shlex.split(line.partition(" > ")[0].partition("  #")[0])
        assert command in COMMANDS, page
        module = importlib.import_module(f"l2ljax.command.{COMMANDS[command].module}")
        module.parser().read(split_overrides(words)[0])


def test_what_the_results_type_is_taken_by_the_command_of_a_wheel():
    """As its first paragraph says: `l2ljax train NAME` for the script and its file, and so on."""
    text = (DOCS / "results.md").read_text().replace("\\\n", "")
    of = {"meta_train": "train", "evaluate": "evaluate", "reproduce": "reproduce"}
    lines = re.findall(rf"^python scripts/({'|'.join(of)})\.py (.*)$", text, re.MULTILINE)
    assert len(lines) > 10
    for script, words in lines:
        words = shlex.split(re.sub(r"--config=configs/(\w+)\.py", r"\1", words))
        module = importlib.import_module(f"l2ljax.command.{COMMANDS[of[script]].module}")
        given = module.parser().read(split_overrides(words)[0])
        assert script != "meta_train" or given.config in config_names()


def public():
    """Name -> value, under the shortest name that the library offers it by; constants by theirs."""
    found, names = {}, {}
    for wing in WINGS:
        module = importlib.import_module(wing)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.ismodule(value):
                continue
            if callable(value) and id(value) in found:
                continue
            found[id(value)] = value
            names[f"{wing}.{name}"] = value
    return names


def test_the_reference_has_every_public_name():
    pages = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    there = set(re.findall(r"^\.\. \S+:: (\S+)$", pages, re.MULTILINE))
    last = {name.rpartition(".")[2] for name in there}
    missing = [n for n, v in public().items() if n not in there and not _elsewhere(n, v, last)]
    assert not missing


def _elsewhere(name, value, last):
    """Constants that a wing offers too, such as l2ljax.evaluation.BASELINES."""
    return not callable(value) and name.rpartition(".")[2] in last and "BUILDERS" not in name


def test_public_functions_have_examples_and_say_what_they_raise():
    lacking = []
    for name, value in public().items():
        if name.startswith(GROUND) or inspect.isclass(value) or not callable(value):
            continue
        text = inspect.getdoc(value) or ""
        if ">>>" not in text:
            lacking.append(f"{name}: no example")
        source = inspect.getsource(value)
        if re.search(r"^\s+raise ", source, re.MULTILINE) and "Raises:" not in text:
            lacking.append(f"{name}: raises, and does not say so")
    assert not lacking


def test_every_exception_class_is_documented():
    classes = set()
    for file in (ROOT / "l2ljax").rglob("*.py"):
        found = re.findall(r"^class (\w+)\((\w*Error|Exception)\):", file.read_text(), re.MULTILINE)
        classes |= {name for name, _ in found}
    page = (DOCS / "api" / "errors.md").read_text()
    documented = set(re.findall(r"autoexception:: \S+\.(\w+)", page))
    assert documented == classes


def test_the_gallery_has_every_figure():
    figures = {str(f.relative_to(DOCS)) for f in (DOCS / "results").rglob("*.png")}
    shown = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", (DOCS / "gallery.md").read_text())
    assert {path for _, path in shown} == figures


def test_the_zoo_is_what_the_files_say():
    page = runpy.run_path(str(ROOT / "scripts" / "zoo.py"))["page"]()
    assert (DOCS / "zoo.md").read_text() == page  # else: python scripts/zoo.py


def test_the_page_of_deviations_is_what_was_measured():
    page = runpy.run_path(str(ROOT / "scripts" / "deviations.py"))["page"]()
    assert (DOCS / "deviations.md").read_text() == page  # else: python scripts/deviations.py


def test_every_page_is_in_the_table_of_contents():
    contents = re.findall(r"^[\w/-]+$", (DOCS / "index.md").read_text(), re.MULTILINE)
    assert {page.stem for page in DOCS.glob("*.md")} - {"index"} <= set(contents)
