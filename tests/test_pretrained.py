"""Weights files: round trips, the bundled optimizers, and what is refused."""

import json

import chex
import jax
import numpy as np
import optax
import pytest
import safetensors.numpy

from l2ljax.bundled import (
    load_optimizer,
    load_pretrained,
    pretrained_metadata,
    pretrained_names,
    save_optimizer,
)
from l2ljax.evaluation import evaluate
from l2ljax.optimizers import build, lstm
from l2ljax.tasks import quadratic

SPECIFICATION = {
    "name": "lstm",
    "hidden_sizes": [3, 2],
    "preprocess": {"name": "identity"},
    "output_scale": 0.5,
}


@pytest.fixture
def saved(tmp_path):
    meta_params = build(SPECIFICATION).init(jax.random.key(0))
    save_optimizer(tmp_path / "w.safetensors", SPECIFICATION, meta_params, {"seed": 3})
    return tmp_path / "w.safetensors", meta_params


def test_round_trip(saved):
    """The same optimizer, meta-parameters bit by bit, and the metadata."""
    path, meta_params = saved
    optimizer, loaded, metadata = load_optimizer(path)
    chex.assert_trees_all_equal(loaded, meta_params)
    assert metadata == {"seed": 3, "optimizer": SPECIFICATION}
    gradients = {"w": np.float32([1.0, -2.0])}
    updates = [
        tx.update(gradients, tx.init(gradients))[0]["w"]
        for tx in (
            optimizer.transform(loaded),
            build(SPECIFICATION).transform(meta_params),
        )
    ]
    np.testing.assert_array_equal(*updates)


def test_saving_is_checked_and_replaces_atomically(saved):
    """Meta-parameters of another network are refused, and the file stays as it was."""
    path, _ = saved
    before = path.read_bytes()
    with pytest.raises(ValueError, match="meta_params"):
        save_optimizer(path, SPECIFICATION, lstm((3,)).init(jax.random.key(0)))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_truncated_files_are_refused(saved, cut):
    """Whatever is missing: one sentence that names the file."""
    path, _ = saved
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"w\.safetensors is damaged or no safetensors file"):
        load_optimizer(path)


def test_files_that_do_not_fit_are_refused(saved):
    """Missing file, foreign file, unknown optimizer, wrong shapes, missing tensors."""
    path, _ = saved
    tensors = safetensors.numpy.load_file(path)

    def rewrite(tensors, **metadata):
        texts = {name: json.dumps(value) for name, value in metadata.items()}
        safetensors.numpy.save_file(tensors, path, metadata=texts)

    with pytest.raises(FileNotFoundError, match="no weights file"):
        load_optimizer(path.with_name("none.safetensors"))
    rewrite(tensors)
    with pytest.raises(ValueError, match="does not say which learned optimizer"):
        load_optimizer(path)
    rewrite(tensors, optimizer={"name": "pickle"})
    with pytest.raises(ValueError, match="Unknown optimizer 'pickle'; there are celo"):
        load_optimizer(path)
    rewrite(tensors, optimizer=SPECIFICATION | {"hidden_sizes": [4, 2]})
    with pytest.raises(ValueError, match="has shape"):
        load_optimizer(path)
    rewrite({n: t for n, t in tensors.items() if "readout" not in n}, optimizer=SPECIFICATION)
    with pytest.raises(ValueError, match="lacks the leaf params/readout"):
        load_optimizer(path)


def test_unknown_names_and_arguments_are_refused():
    """Specifications list what there is."""
    with pytest.raises(ValueError, match="Unknown optimizer 'sgd'; there are celo"):
        build({"name": "sgd"})
    with pytest.raises(ValueError, match="unexpected keyword argument 'units'; it takes hidden"):
        build({"name": "lstm", "units": 3})
    with pytest.raises(ValueError, match="Unknown preprocess 'log'"):
        build({"name": "lstm", "preprocess": {"name": "log"}})
    told = "no bundled optimizer 'lstm-imagenet'; there are averaged-suite, desk-suite"
    with pytest.raises(ValueError, match=told):
        load_pretrained("lstm-imagenet")


def test_bundled_optimizers_say_how_they_were_made():
    """Command, configuration with its seed, time, hardware and evaluation, for each."""
    assert {"lstm-quadratic", "lstm-mnist"} <= set(pretrained_names())
    for name in pretrained_names():
        metadata = pretrained_metadata(name)
        assert metadata["command"].startswith(
            (
                "python scripts/meta_train.py --config=configs/",
                "python benchmarks/quality/",
                "l2ljax train ",
                "make desk",  # both searches of benchmarks/quality/search_rule.py
                "make default",  # those, and four more
                "make timed",  # those of `desk` told the number of steps, and two more
            )
        )
        assert {"config", "seconds", "hardware", "validation_loss", "evaluation"} <= set(metadata)
        assert "seed" in metadata["config"]
        rows = metadata["evaluation"]["optimizers"].values()
        learned = [row for row in rows if row["learning_rate"] is None]
        assert learned
        assert not any(row["diverged"] for row in learned)


def test_bundled_quadratic_optimizer_beats_tuned_adam():
    """On fresh quadratics, where Adam's rate is the best found on others."""
    optimizer, meta_params = load_pretrained("lstm-quadratic")
    rates = pretrained_metadata("lstm-quadratic")["evaluation"]["optimizers"]
    losses = [
        evaluate(quadratic(), tx, jax.random.key(77), num_tasks=256, num_steps=100)[:, -1].mean()
        for tx in (optimizer.transform(meta_params), optax.adam(rates["adam"]["learning_rate"]))
    ]
    assert losses[0] < losses[1]
