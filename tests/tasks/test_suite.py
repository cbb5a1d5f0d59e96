"""The suite: two sides for good, names of published curves, and tasks that build."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from l2ljax.tasks import suite

SHARED = Path(__file__).parents[3] / "shared"
REAL = Path(os.environ.get("TFDS_DATA_DIR") or SHARED / "tfds")

HELD_OUT = {  # a change of this list is a change of what every published figure means
    "cifar8-relu-32", "mnist-relu-128x128x128", "cifar-relu-128x128x128",
    "cifar-tanh-128x128x128", "cifar-layernorm-relu", "cifar-batchnorm-relu",
    "cifar-relu-squared", "cifar-dropout-squared", "cifar-relu-256x256", "mnist-autoencoder",
    "cifar-autoencoder", "cifar16-convnet", "cifar-convnet-tanh", "cifar-convnet-batchnorm",
    "mnist-es-1", "mnist-es-8", "rosenbrock", "valley-100", "mnist-sigmoid-20",
    "mnist-sigmoid-20-small-init", "mnist-relu-20", "mnist-sigmoid-20x20",
    "mnist-gelu-64-large-init", "digits-relu-small-scale", "wine-softmax", "factorisation-60",
    "implicit-field", "poisson", "bytes-gru-128", "bytes-transformer-64", "cifar-convnet",
    "neural-art-64",
}  # fmt: skip


def test_no_task_is_on_both_sides_or_ever_moves():
    train, held_out = suite.tasks("train"), suite.tasks("held_out")
    assert set(held_out) == HELD_OUT
    assert not set(train) & set(held_out)
    assert set(train) | set(held_out) == set(suite.ENTRIES)
    assert len(suite.ENTRIES) >= 28


def test_a_task_of_the_other_side_is_not_there():
    with pytest.raises(KeyError):
        suite.tasks("train")["rosenbrock"]
    with pytest.raises(ValueError, match="split"):
        suite.tasks("test")


@pytest.mark.parametrize("name", ["digits-relu-32", "digits-tanh-64x32", "bytes-gru-32"])
def test_tasks_without_downloads_start_near_chance(name):
    """Cross-entropies start at about the logarithm of the number of classes."""
    task = suite.tasks("train")[name]
    assert suite.tasks("train")[name] is task
    params = task.init((), jax.random.key(0))
    loss = task.loss(params, task.batch(task.data, (), jax.random.key(1)))
    classes = 25 if name == "bytes-gru-32" else 10
    assert 0.6 * np.log(classes) < loss < 2.5 * np.log(classes)


def test_envelopes_are_names_of_published_curves():
    path = SHARED / "zoo" / "envelopes.json"
    if not path.exists():
        pytest.skip(f"the published curves are not at hand in {path}")
    curves = json.loads(path.read_text())
    named = {entry.envelope for entry in suite.ENTRIES.values() if entry.envelope}
    assert named <= set(curves)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(suite.ENTRIES))
def test_every_task_has_a_finite_loss_and_gradient(name):
    if not (REAL / "mnist").is_dir():
        pytest.skip(f"MNIST and CIFAR-10 are not prepared in {REAL}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", os.fspath(REAL))
        task = suite.ENTRIES[name].build()

    @jax.jit
    def start(task, key):
        instance = task.sample(task.data, key)
        params = task.init(instance, key)
        return jax.value_and_grad(task.loss)(params, task.batch(task.data, instance, key))

    loss, gradient = start(task, jax.random.key(0))
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
