"""docs/use.md: a complete file for each framework, and labels of a partition in each."""

import re
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core import freeze

import l2ljax

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "use.md").read_text()
SHOWN = dict(re.findall(r"`(docs/examples/\S+\.py)`:\n\n```python\n(.*?)```", PAGE, re.DOTALL))
FILES = sorted(ROOT.glob("docs/examples/use_with_*.py"))


def test_the_page_shows_the_files():
    """All of them, literally, none longer than a screen."""
    assert {ROOT / name for name in SHOWN} == set(FILES)
    for name, code in SHOWN.items():
        assert (ROOT / name).read_text() == code, name
        assert len(code.splitlines()) <= 60, name


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_a_file_trains_its_model(file, capsys):
    """From the loss of a guess to below it in 60 steps, by either optimizer."""
    code, names = file.read_text(), {}
    assert "= 200" in code
    exec(compile(code.replace("= 200", "= 60", 1), file.name, "exec"), names)
    assert len(capsys.readouterr().out.splitlines()) == 2
    for losses in names["losses"].values():
        assert len(losses) == 60
        assert np.mean(losses[-10:]) < 0.95 * losses[0]


class Net(nnx.Module):
    """Of nnx, with names that tell nothing of convolutions."""

    def __init__(self):
        self.stem = nnx.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0))
        self.top = nnx.Linear(2, 3, rngs=nnx.Rngs(1))


def nnx_params():
    return nnx.state(Net(), nnx.Param)


def equinox_params():
    keys = jax.random.split(jax.random.key(0))
    net = [eqx.nn.Conv2d(1, 2, 3, key=keys[0]), eqx.nn.Linear(2, 3, key=keys[1])]
    return eqx.filter(net, eqx.is_inexact_array)


def frozen_params():
    return freeze({"stem": {"kernel": jnp.ones((3, 3, 1, 2))}, "top": {"bias": jnp.ones(3)}})


def labels_of(params):
    return jax.tree.map(lambda leaf: "conv" if jnp.ndim(leaf) > 2 else "fc", params)


@pytest.mark.slow
@pytest.mark.parametrize(
    "params",
    [nnx_params, equinox_params, frozen_params, lambda: tuple(frozen_params().values())],
    ids=["nnx", "equinox", "frozen", "tuple"],
)
def test_a_partition_has_labels_in_every_framework(params):
    """By rank where nothing is said, and the same by a function, by a tree, or by their names."""
    params = params()
    gradient = jax.tree.map(jnp.ones_like, params)

    def updates(**labels):
        tx = l2ljax.pretrained("lstm-cifar10", **labels)
        return jax.tree.leaves(tx.update(gradient, tx.init(params), params)[0])

    by_rank = updates()
    given = [updates(labels=labels_of), updates(labels=labels_of(params))]
    for other in [*given, updates(labels="conv_fc_or_rank")]:
        jax.tree.map(np.testing.assert_array_equal, by_rank, other)
    all_fc = updates(labels=lambda p: jax.tree.map(lambda _: "fc", p))
    leaves = jax.tree.leaves(params)
    for leaf, ours, others in zip(leaves, by_rank, all_fc, strict=True):
        assert np.allclose(ours, others) == (leaf.ndim <= 2)
