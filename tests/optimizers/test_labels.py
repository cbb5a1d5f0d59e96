"""Labels of parameters by name, and partitions that name them in plain data."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax.bundled import load_optimizer, save_optimizer
from l2ljax.estimators import truncated_bptt
from l2ljax.optimizers import build, conv_fc_labels, lstm, partition
from l2ljax.optimizers.labels import named_partition
from l2ljax.optimizers.preprocess import identity
from l2ljax.tasks import convnet

IMAGES = np.random.default_rng(0).normal(size=(6, 8, 8, 1)).astype(np.float32)
TASK = convnet((IMAGES, np.arange(6) % 3), (2, 3), (4,), batch_size=4)
MEMBERS = {
    "conv": {"name": "lstm", "hidden_sizes": [3], "preprocess": {"name": "identity"}},
    "fc": {"name": "lstm", "hidden_sizes": [2]},
}
SPECIFICATION = {"name": "partition", "optimizers": MEMBERS, "labels": "conv_fc"}


def test_each_leaf_of_a_convnet_has_one_label():
    """Two convolutions of three leaves; a hidden layer of three and an output of two."""
    params = TASK.init((), jax.random.key(0))
    labels = conv_fc_labels(params)
    assert jax.tree.structure(labels) == jax.tree.structure(params)
    assert set(jax.tree.leaves(labels["conv"])) == {"conv"}
    assert set(jax.tree.leaves(labels["fc"])) == {"fc"}
    assert [len(jax.tree.leaves(labels[name])) for name in ("conv", "fc")] == [6, 5]


def test_names_of_flax_are_understood():
    """The first key on the path that says it, in any case."""
    params = {"params": {"Conv_0": {"bias": np.zeros(2)}, "Dense_1": {"conv": np.zeros(1)}}}
    expected = {"params": {"Conv_0": {"bias": "conv"}, "Dense_1": {"conv": "fc"}}}
    assert conv_fc_labels(params) == expected


def test_a_leaf_that_is_neither_is_refused_by_name():
    with pytest.raises(ValueError, match="parameter params/BatchNorm_0/scale is neither"):
        conv_fc_labels({"params": {"BatchNorm_0": {"scale": np.ones(2)}}})


def one_update(optimizer, meta_params):
    """For a gradient of ones on the convnet."""
    tx, params = optimizer.transform(meta_params), TASK.init((), jax.random.key(0))
    return tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params))[0]


def test_a_specification_builds_the_partition_it_describes():
    """Also after a trip through JSON; the given dicts stay as they were."""
    by_hand = partition({"conv": lstm((3,), identity()), "fc": lstm((2,))}, conv_fc_labels)
    expected = by_hand.init(jax.random.key(1))
    text = json.dumps(SPECIFICATION)
    for specification in (SPECIFICATION, json.loads(text)):
        built = build(specification)
        chex.assert_trees_all_equal(built.init(jax.random.key(1)), expected)
        updates = [one_update(optimizer, expected) for optimizer in (built, by_hand)]
        chex.assert_trees_all_equal(*updates)
    assert json.dumps(SPECIFICATION) == text


def test_a_tuple_of_labels_is_a_tree_of_them():
    """As `l2ljax.partition` takes it: each parameter has its member's update."""
    members = {"conv": lstm((3,), identity()), "fc": lstm((2,))}
    optimizer = named_partition(members, ("conv", "fc"))
    meta_params, gradient = optimizer.init(jax.random.key(1)), (jnp.ones(2), jnp.ones(3))
    tx = optimizer.transform(meta_params)
    updates, _ = tx.update(gradient, tx.init(gradient))
    for name, update, ones in zip(members, updates, gradient, strict=True):
        alone = members[name].transform(meta_params[name])
        np.testing.assert_allclose(update, alone.update(ones, alone.init(ones))[0], rtol=1e-6)
    with pytest.raises(ValueError, match="labels has 'dense', which is no member"):
        named_partition(members, ("conv", "dense"))


def test_partitions_nest():
    nested = build(SPECIFICATION | {"optimizers": MEMBERS | {"fc": SPECIFICATION}})
    meta_params = jax.eval_shape(nested.init, jax.random.key(0))
    assert sorted(meta_params["fc"]) == ["conv", "fc"]


def test_weights_files_name_a_partition(tmp_path):
    """The same meta-parameters, specification and updates come back."""
    path = tmp_path / "w.safetensors"
    meta_params = build(SPECIFICATION).init(jax.random.key(2))
    save_optimizer(path, SPECIFICATION, meta_params)
    optimizer, loaded, metadata = load_optimizer(path)
    assert metadata == {"optimizer": SPECIFICATION}
    chex.assert_trees_all_equal(loaded, meta_params)
    updates = [one_update(optimizer, loaded), one_update(build(SPECIFICATION), meta_params)]
    chex.assert_trees_all_equal(*updates)


def test_a_partition_is_meta_trained_on_a_convnet():
    """A finite meta-gradient for both members."""
    optimizer = build(SPECIFICATION)
    estimator = truncated_bptt(TASK, optimizer, num_tasks=2, episode_length=3, unroll_length=3)
    meta_params = optimizer.init(jax.random.key(3))
    state = estimator.init(jax.random.key(4), meta_params)
    _, gradients, _, _ = jax.jit(estimator.estimate)(meta_params, state, jax.random.key(5))
    for label in MEMBERS:
        leaves = jax.tree.leaves(gradients[label])
        assert all(np.isfinite(leaf).all() for leaf in leaves)
        assert any(np.any(leaf) for leaf in leaves)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": "by_rank"}, "Unknown labels 'by_rank'; there are conv_fc"),
        ({"labels": 3}, "labels must be a name, a function or a tree of labels, got 3"),
        ({"labels": None}, "labels must be a name, a function or a tree of labels, got None"),
        ({"labels": ["dense"]}, "labels has 'dense', which is no member of the partition"),
        ({"labels": "math:pi"}, "labels 'math:pi' must be a function params -> labels"),
        ({"optimizers": {}}, "at least one learned optimizer"),
        ({"optimizers": ["lstm"]}, r"optimizers must be a dict .* got \['lstm'\]"),
        ({"optimizers": {"conv": "lstm"}}, "optimizers must be a dict .* got {'conv': 'lstm'}"),
        ({"optimizers": {"fc": {"name": "sgd"}}}, "Unknown optimizer 'sgd'; there are celo"),
        ({"param_labels": "conv_fc"}, "unexpected keyword .* it takes optimizers, labels"),
    ],
)
def test_bad_specifications_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        build(SPECIFICATION | change)
