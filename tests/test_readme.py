"""The examples of the README and of the documentation run."""

import re
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
PAGES = ("README.md", "docs/estimators.md", "docs/report.md")
BLOCKS = [block for page in PAGES for block in PYTHON.findall((ROOT / page).read_text())]


@pytest.mark.parametrize("block", BLOCKS, ids=["use", "train", "estimators", "report"])
def test_examples_run(block):
    """As they stand, in order, each from an empty namespace."""
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    if "TrainState" in names:
        assert float(names["value"]) < 0.5  # from log(10) = 2.3: the optimizer transfers
    elif "losses" in names:
        assert names["losses"].shape == (64, 21)
        assert bool(jax.numpy.isfinite(names["losses"]).all())
    elif "write_report" in names:
        assert (Path(names["workdir"]) / "report.html").stat().st_size > 1e6
    else:
        assert names["result"].num_meta_updates == 4


SETTING, *SECTIONS = (ROOT / "docs/composition.md").read_text().split("\n## ")
RECIPES = {s.split("\n")[0]: blocks for s in SECTIONS if (blocks := PYTHON.findall(s))}


@pytest.fixture(scope="module")
def training():
    """The names of the page's first block: somebody's model, loss and loop."""
    names = {}
    exec(compile(PYTHON.findall(SETTING)[0], "composition.md", "exec"), names)
    return names


@pytest.mark.parametrize("recipe", RECIPES)
def test_examples_run_in_ones_own_loop(training, recipe):
    """Each block after the first alone: it asserts itself what it is there for."""
    for block in RECIPES[recipe]:
        names = dict(training)
        exec(compile(block, "composition.md", "exec"), names)
        results = [names[n] for n in ("params", "updates", "average", "value") if n in names]
        assert all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(results))
