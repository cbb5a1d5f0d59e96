"""The examples of the README and of the documentation run."""

import re
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/estimators.md")
BLOCKS = [
    block
    for page in PAGES
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
]


@pytest.mark.parametrize("block", BLOCKS, ids=["use", "train", "estimators"])
def test_examples_run(block):
    """As they stand, in order, each from an empty namespace."""
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    if "TrainState" in names:
        assert float(names["value"]) < 0.5  # from log(10) = 2.3: the optimizer transfers
    elif "losses" in names:
        assert names["losses"].shape == (64, 21)
        assert bool(jax.numpy.isfinite(names["losses"]).all())
    else:
        assert names["result"].num_meta_updates == 4
