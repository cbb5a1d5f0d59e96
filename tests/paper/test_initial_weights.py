"""Runs, partitions and figures that begin with weights from a file."""

import chex
import jax
import pytest
from tiny import TINY

from l2ljax.bundled import load_meta_params, load_optimizer, save_optimizer
from l2ljax.experiments import experiment
from l2ljax.paper import reproduction as paper


def test_runs_start_from_trained_weights(weights, tmp_path):
    """With a rate too small to change a float32 they end with them; others are refused."""
    frozen = TINY | {
        "initial": weights,
        "meta_optimizer": TINY["meta_optimizer"] | {"learning_rate": 1e-30},
        "seed": 5,
    }
    result = experiment.run(frozen, tmp_path / "run", command="python", progress=False)
    chex.assert_trees_all_equal(result.meta_params, load_optimizer(weights)[1])
    for initial, words in {
        "lstm-mnist": "has shape .* expected",
        "adam-mnist": "There is no bundled optimizer 'adam-mnist'",
        "no.safetensors": "There is no weights file",
        3: "initial must name a bundled optimizer",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            experiment.run(frozen | {"initial": initial}, tmp_path / "no", command="python")


def test_a_partition_starts_from_one_source_a_label(weights):
    """Each label its own."""
    _, meta_params, _ = load_optimizer(weights)
    both = {"conv": meta_params, "fc": meta_params}
    found = load_meta_params({"conv": weights, "fc": weights}, like=both)
    chex.assert_trees_all_equal(found, both)
    with pytest.raises(ValueError, match="lacks the leaf fc"):
        load_meta_params({"conv": weights}, like=both)


def test_a_partition_goes_on_from_the_parts_of_another(tmp_path, weights):
    """Each label from the file's part of that label; the parts differ."""
    _, meta_params, metadata = load_optimizer(weights)
    one = metadata["optimizer"]
    both = {"name": "partition", "optimizers": {"conv": one, "fc": one}, "labels": "conv_fc"}
    parts = {"conv": meta_params, "fc": jax.tree.map(lambda leaf: leaf + 1, meta_params)}
    path = tmp_path / "both.safetensors"
    save_optimizer(path, both, parts)
    found = load_meta_params({"conv": str(path), "fc": str(path)}, like=parts)
    chex.assert_trees_all_equal(found, parts)
    found = load_meta_params({"conv": str(path), "fc": weights}, like=parts)
    chex.assert_trees_all_equal(found["fc"], meta_params)


def test_weights_without_a_configuration_cannot_be_evaluated(tmp_path, weights):
    """The sentence says what to give instead."""
    _, meta_params, metadata = load_optimizer(weights)
    path = tmp_path / "bare.safetensors"
    save_optimizer(path, metadata["optimizer"], meta_params)
    with pytest.raises(ValueError, match="does not say what it was trained on"):
        paper.compute({"kind": "curves", "weights": str(path), "evaluation": {}}, tmp_path)
