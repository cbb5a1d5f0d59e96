"""`partition`: members that share nothing, as one learned optimizer."""

from typing import Any

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.base import LearnedOptimizer
from l2ljax.optimizers import lstm, partition
from l2ljax.optimizers.preprocess import identity

MEMBERS = {"conv": lstm((2,), identity()), "fc": lstm((2,))}
LABELS = {"conv": {"kernel": "conv", "bias": "conv"}, "dense": "fc", "head": "fc"}
PREFIX = {"conv": "conv", "dense": "fc", "head": "fc"}


def draw(seed):
    """Parameters of a small convolutional classifier, or gradients of them."""
    normal = np.random.default_rng(seed).normal
    conv = {"kernel": jnp.float32(normal(size=(3, 4))), "bias": jnp.float32(normal(size=4))}
    return {"conv": conv, "dense": jnp.float32(normal(size=4)), "head": jnp.float32(normal())}


def from_paths(params):
    """The same labels, by a function."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "conv" if path[0].key == "conv" else "fc", params
    )


META_PARAMS = jax.jit(partition(MEMBERS, LABELS).init)(jax.random.key(0))


def two_updates(tx, params, gradients):
    """The second of two updates: it depends on the state as well."""
    _, state = tx.update(gradients[0], tx.init(params))
    return tx.update(gradients[1], state)[0]


@pytest.mark.parametrize("labels", [LABELS, PREFIX, from_paths], ids=["tree", "prefix", "function"])
def test_members_do_what_they_do_alone(labels):
    """On their own parameters, with their own meta-parameters."""
    optimizer = partition(MEMBERS, labels)
    updates = two_updates(optimizer.transform(META_PARAMS), draw(0), [draw(1), draw(2)])
    for label, names in {"conv": ["conv"], "fc": ["dense", "head"]}.items():
        mine = [{name: draw(seed)[name] for name in names} for seed in range(3)]
        alone = two_updates(MEMBERS[label].transform(META_PARAMS[label]), mine[0], mine[1:])
        for name in names:
            chex.assert_trees_all_equal(updates[name], alone[name])


def test_members_keep_state_of_their_own_parameters_only():
    """The other's parameters have none."""
    optimizer = partition(MEMBERS, LABELS)
    states = optimizer.transform(META_PARAMS).init(draw(0)).inner_states
    shapes = {
        label: sorted(leaf.shape[1:] for leaf in jax.tree.leaves(optax.tree.get(state, "cell")))
        for label, state in states.items()
    }
    assert shapes == {"conv": [(3, 4), (4,)], "fc": [(), (4,)]}


def test_each_member_has_meta_params_of_its_own():
    """One entry a label; changing one changes the updates of that group only."""
    optimizer = partition(MEMBERS, LABELS)
    shapes = {label: tree["params"]["kernel_0"].shape for label, tree in META_PARAMS.items()}
    assert shapes == {"conv": (8, 3), "fc": (8, 4)}  # [4 hidden, features + hidden]
    changed = META_PARAMS | {"fc": jax.tree.map(lambda leaf: leaf + 1.0, META_PARAMS["fc"])}
    before, after = (
        two_updates(optimizer.transform(phi), draw(0), [draw(1), draw(2)])
        for phi in (META_PARAMS, changed)
    )
    chex.assert_trees_all_equal(before["conv"], after["conv"])
    assert not np.isclose(before["head"], after["head"])
    assert not np.isclose(before["dense"], after["dense"]).any()


def test_equal_members_start_from_different_meta_params():
    """`init` gives each member a key of its own."""
    twins = partition({"a": lstm((2,)), "b": lstm((2,))}, {"x": "a", "y": "b"})
    a, b = (tree["params"]["kernel_0"] for tree in jax.jit(twins.init)(jax.random.key(0)).values())
    assert not np.isclose(a, b).any()


@pytest.mark.parametrize("labels", [LABELS, PREFIX, from_paths], ids=["tree", "prefix", "function"])
def test_coordinate_groups_cover_each_leaf_exactly_once(labels):
    """In the order of `jax.tree.leaves`: conv/bias, conv/kernel, dense, head."""
    optimizer = partition(MEMBERS, labels)
    groups = optimizer.coordinate_groups(draw(0))
    assert sorted(group.leaves for group in groups) == [(0, 1), (2, 3)]
    for group, label in zip(sorted(groups), ["conv", "fc"], strict=True):
        gradient = draw(1)["dense"]
        ours, alone = group.transform(META_PARAMS), MEMBERS[label].transform(META_PARAMS[label])
        update, expected = (tx.update(gradient, tx.init(gradient))[0] for tx in (ours, alone))
        np.testing.assert_array_equal(update, expected)


def test_a_partition_of_partitions_has_the_groups_of_its_parts():
    """Positions count in the whole tree of parameters."""
    inner = partition(MEMBERS, from_rank)
    outer = partition({"inner": inner, "own": lstm((4,))}, PREFIX_OF_INNER)
    groups = outer.coordinate_groups(draw(0))
    assert sorted(group.leaves for group in groups) == [(0,), (1,), (2, 3)]


PREFIX_OF_INNER = {"conv": "inner", "dense": "own", "head": "own"}


def from_rank(params):
    """Matrices to "conv", the others to "fc"."""
    return jax.tree.map(lambda leaf: "conv" if jnp.ndim(leaf) == 2 else "fc", params)


def test_one_member_that_is_not_coordinatewise_makes_the_whole_so():
    """Estimators then make no use of independence."""
    whole = LearnedOptimizer(MEMBERS["fc"].init, MEMBERS["fc"].transform)
    assert partition(MEMBERS | {"whole": whole}, LABELS).coordinate_groups is None


def test_a_label_without_a_member_is_refused():
    """Where the parameters first meet the labels."""
    optimizer = partition(MEMBERS, LABELS | {"head": "attention"})
    with pytest.raises(ValueError, match=r"no corresponding transformation(.|\n)*attention"):
        optimizer.transform(META_PARAMS).init(draw(0))


def test_coordinate_groups_refuse_what_the_transformation_refuses():
    """In the same words, instead of leaving the parameter out."""
    optimizer = partition(MEMBERS, LABELS | {"head": "attention"})
    refusals = []
    for meet in (optimizer.transform(META_PARAMS).init, optimizer.coordinate_groups):
        with pytest.raises(ValueError, match="attention") as error:
            meet(draw(0))
        refusals.append(str(error.value))
    assert refusals[0] == refusals[1]


@pytest.mark.parametrize("change", [lambda p: {"conv": p["conv"]}, lambda p: p | {"rnn": {}}, list])
def test_meta_params_without_a_label_are_refused(change):
    """With the labels that were expected."""
    optimizer = partition(MEMBERS, LABELS)
    with pytest.raises(ValueError, match=r"keys \['conv', 'fc'\]"):
        optimizer.transform(change(META_PARAMS))


def test_a_partition_of_nothing_is_refused():
    """A partition has members."""
    with pytest.raises(ValueError, match="at least one learned optimizer"):
        partition({}, LABELS)


def test_labels_may_be_a_tree_that_can_be_called():
    """A module of Equinox with labels for leaves: its `__call__` is its own affair."""

    class Net(eqx.Module):
        a: Any
        b: Any

        def __call__(self, x):
            return x * self.a + self.b

    net = Net(jnp.ones(3), jnp.ones(2))
    members = {"x": lstm((3,)), "y": lstm((2,))}
    optimizer = partition(members, Net("x", "y"))
    assert [group.leaves for group in optimizer.coordinate_groups(net)] == [(0,), (1,)]
    meta_params = optimizer.init(jax.random.key(0))
    tx = optimizer.transform(meta_params)
    updates, _ = tx.update(net, tx.init(net))
    for label, leaf, gradient in (("x", updates.a, net.a), ("y", updates.b, net.b)):
        alone = members[label].transform(meta_params[label])
        np.testing.assert_allclose(leaf, alone.update(gradient, alone.init(gradient))[0], rtol=1e-6)
