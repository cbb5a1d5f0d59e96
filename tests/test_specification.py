"""Specifications: what arguments become, which values are the same, and what a name finds."""

import dataclasses
import functools
import json
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from own_builders import updates

import l2ljax
from l2ljax.base import LearnedOptimizer
from l2ljax.bundled import load_optimizer, save_optimizer
from l2ljax.optimizers import network_of
from l2ljax.specification import call_with, names, specified
from l2ljax.specification.plain import Specification, as_plain, specification_of

KEY = jax.random.key(0)


def halve(x):
    return x / 2


@specified()
def here(factor=0.5, options=None, squash=halve, dtype=jnp.float32) -> LearnedOptimizer:
    del options, squash, dtype
    return LearnedOptimizer(lambda key: jnp.ones(()), lambda phi: optax.scale(-factor * phi))


@dataclasses.dataclass(frozen=True)
class Cut:
    """A preprocessing of one's own: plain fields and no specification."""

    limit: float
    num_features = 1

    def __call__(self, gradient):
        return jnp.clip(gradient, -self.limit, self.limit)[None]


def test_equal_plain_arguments_give_the_very_same_value():
    """However they are given; others do not."""
    assert l2ljax.lstm((4,)) is l2ljax.lstm([4], output_scale=np.float64(0.1), dtype="float32")
    assert l2ljax.lstm((4,)) is not l2ljax.lstm((4,), output_scale=0.2)
    assert here() is here(0.5, squash=halve)
    assert here(1) is not here(True)  # JSON knows numbers from booleans
    parts = [l2ljax.partition({"a": l2ljax.lstm((4,)), "b": here()}, {"x": "a"}) for _ in "ab"]
    assert parts[0] is parts[1]
    assert parts[0].specification["optimizers"]["b"]["name"] == "test_specification:here"


def test_a_member_that_was_changed_is_not_taken_for_the_one_it_was():
    """`_replace` makes another optimizer, whose old specification would rebuild the first."""
    inner = l2ljax.lstm((2,))
    louder = inner._replace(
        transform=lambda phi: optax.chain(inner.transform(phi), optax.scale(100.0))
    )
    assert specification_of(louder) is None
    plain = l2ljax.partition({"a": inner}, {"x": "a"})
    wrapped = l2ljax.partition({"a": louder}, {"x": "a"})
    phi = plain.init(KEY)
    one, other = (updates(o, phi, {"x": jnp.ones(3)})["x"] for o in (plain, wrapped))
    np.testing.assert_allclose(other, 100 * one, rtol=1e-6)
    assert wrapped.specification is None
    with pytest.raises(ValueError, match="was changed after its builder made it, so its spec"):
        save_optimizer("never.safetensors", louder, inner.init(KEY))
    scan_only = inner._replace(coordinate_groups=None)  # the same updates
    assert specification_of(scan_only) == inner.specification


@pytest.mark.parametrize(
    "odd",
    [lambda x: x, jnp.tanh(1.0), np.zeros(2), {1: 2}, {"name": "x"}, float("inf"), {"a": {3}},
     functools.partial(halve), optax.sgd(0.1)],
    ids=lambda odd: type(odd).__name__,
)  # fmt: skip
def test_what_is_no_plain_data_has_no_specification(odd):
    """It works all the same, and saving it says how to get one."""
    optimizer = here(options=odd)
    assert optimizer.specification is None
    with pytest.raises(ValueError, match=r"no specification .* decorated with @l2ljax.specified"):
        save_optimizer("never.safetensors", optimizer, jnp.ones(()))


def test_a_list_that_holds_itself_is_no_plain_data():
    """No endless recursion."""
    odd = []
    odd.append(odd)
    assert here(options=odd).specification is None


def test_tracers_as_arguments_are_not_kept():
    """An optimizer made inside a jitted function with a traced factor, and one with constants."""

    @jax.jit
    def step(factor):
        made = here(factor)
        assert made.specification is None
        return updates(made, jnp.ones(()))[0]

    assert [float(step(f)) for f in (0.5, 2.0)] == [-0.5, -2.0]

    @specified("test_constant")
    def constant(value: float) -> LearnedOptimizer:
        array = jnp.full((), value)
        return LearnedOptimizer(lambda key: array, lambda phi: optax.scale(phi * array))

    jitted = jax.jit(lambda x: x * updates(constant(3.0), 1.0)[0])
    assert float(jitted(1.0)) == 3.0
    assert float(constant(3.0).init(KEY)) == 3.0  # no tracer has stayed behind


def test_functions_are_named_where_the_name_finds_them(monkeypatch):
    """Not lambdas, inner functions, wrapped or redefined ones; Optax's by its outermost package."""
    assert as_plain(halve) == {"function": "test_specification:halve"}
    assert names.name_of(optax.adamw) == "optax:adamw"

    @functools.wraps(halve)
    def wrapped(x):
        return halve(x) + 1

    def inner(x):
        return x

    for odd in (wrapped, inner, lambda x: x, Cut(1.0).__call__, 3):
        with pytest.raises(names.NotPlainError):
            names.name_of(odd)
    old = halve
    monkeypatch.setattr(sys.modules[__name__], "halve", lambda x: x)
    with pytest.raises(names.NotPlainError):
        names.name_of(old)
    assert here(squash=old).specification is None


def test_specifications_compare_by_content():
    """With dicts too, whose tuples are lists; and never with what is no JSON."""
    one = Specification({"name": "a", "sizes": (1, 2), "inner": {"p": 0.5}})
    assert one == {"inner": {"p": 0.5}, "sizes": [1, 2], "name": "a"}
    assert one == {"inner": {"p": 0.5}, "sizes": (1, 2), "name": "a"}
    assert one != {"name": "a"}
    assert one != {"name": object()}
    assert len({one, Specification(dict(one))}) == 1
    assert json.loads(json.dumps(dict(one))) == one


def test_saving_takes_the_optimizer_and_forgets_nothing(tmp_path):
    """An output scale of 0.5 comes back as 0.5: updates are those of before, not a fifth."""
    optimizer = l2ljax.lstm((3,), output_scale=0.5, preprocess=l2ljax.identity())
    phi = optimizer.init(KEY)
    save_optimizer(tmp_path / "w.safetensors", optimizer, phi, {"note": 1})
    loaded, loaded_phi, metadata = load_optimizer(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(updates(loaded, loaded_phi), updates(optimizer, phi))
    assert metadata["optimizer"]["output_scale"] == 0.5
    assert loaded is optimizer
    network = network_of(loaded)
    assert (network.output_scale, network.hidden_sizes) == (0.5, (3,))
    assert network.preprocess == l2ljax.identity()
    assert network_of(l2ljax.lstm((3,), kernel="interpreted")).kernel == "interpreted"
    with pytest.raises(ValueError, match=r"network_of needs an optimizer that l2ljax\.lstm made"):
        network_of(here())


def test_a_preprocess_of_ones_own_is_saved_by_its_fields(tmp_path):
    """A frozen dataclass needs no specification; another limit is another optimizer."""
    optimizer = l2ljax.lstm((3,), Cut(0.5))
    phi = optimizer.init(KEY)
    save_optimizer(tmp_path / "w.safetensors", optimizer, phi)
    loaded, _, metadata = load_optimizer(tmp_path / "w.safetensors")
    assert metadata["optimizer"]["preprocess"] == {"name": "test_specification:Cut", "limit": 0.5}
    np.testing.assert_array_equal(updates(loaded, phi), updates(optimizer, phi))
    assert l2ljax.lstm((3,), Cut(0.6)) is not optimizer


def test_a_taken_name_is_refused_when_it_is_saved(tmp_path):
    """One's own "lstm" would come back as the library's."""

    @specified("lstm")
    def mine(hidden_sizes=(2,)):
        return l2ljax.lstm(hidden_sizes)._replace(transform=lambda phi: optax.sgd(1.0))

    with pytest.raises(ValueError, match="finds another builder than the one that made"):
        save_optimizer(tmp_path / "w.safetensors", mine(), mine().init(KEY))


def test_builders_that_cannot_be_specified_are_refused():
    """At the decorator, or when they return something else."""
    with pytest.raises(ValueError, match="has an argument called name"):
        specified()(lambda name: None)
    with pytest.raises(TypeError, match=r"Write @specified\(\)"):
        specified(halve)

    class Pair(NamedTuple):
        init: float
        transform: float

    with pytest.raises(TypeError, match="must return a LearnedOptimizer"):
        specified("pair")(lambda a=1: Pair(1.0, 2.0))()


def test_only_so_many_values_are_kept():
    """The oldest are made anew when they are asked for."""

    @specified("many")
    def many(number: int) -> LearnedOptimizer:
        return LearnedOptimizer(lambda key: number, lambda phi: optax.identity())

    first = many(0)
    for number in range(1, 300):
        many(number)
    assert many(0) is not first
    assert many(0).specification == first.specification


def test_arguments_of_call_with():
    """One's own functions, and what they make, at any depth."""
    specification = {
        "name": "optax:adamw",
        "learning_rate": {"name": "optax:constant_schedule", "value": 0.5},
    }
    tx = call_with({}, specification, "transformation")
    update, _ = tx.update(jnp.ones(1), tx.init(jnp.ones(1)), jnp.zeros(1))
    np.testing.assert_allclose(update, -0.5, rtol=1e-4)  # Adam's first step is its rate


def test_leaves_whose_paths_read_alike_are_kept_apart(tmp_path):
    """`{"head": {"conv": a}, "head/conv": b}`: labels may hold what separates names."""
    inner = l2ljax.partition({"conv": l2ljax.lstm((2,)), "fc": l2ljax.lstm((2,))}, ["conv", "fc"])
    both = {"head": inner, "head/conv": l2ljax.lstm((2,))}
    optimizer = l2ljax.partition(both, {"w": "head/conv", "b": "head"})
    phi = optimizer.init(KEY)
    save_optimizer(tmp_path / "w.safetensors", optimizer, phi)
    _, loaded, _ = load_optimizer(tmp_path / "w.safetensors")
    jax.tree.map(np.testing.assert_array_equal, loaded, phi)


def test_metadata_cannot_take_the_checksums_name(tmp_path):
    optimizer = l2ljax.lstm((2,))
    with pytest.raises(ValueError, match="leave the name 'sha256' to the file's checksum"):
        save_optimizer(tmp_path / "w", optimizer, optimizer.init(KEY), {"sha256": "abc"})
    assert not (tmp_path / "w").exists()


def test_a_specification_that_is_no_json_is_saved_as_its_builder_tells_it(tmp_path):
    given = {"name": "lstm", "hidden_sizes": [2], "dtype": jnp.bfloat16}
    phi = l2ljax.optimizers.build(given).init(KEY)
    save_optimizer(tmp_path / "w.safetensors", given, phi)
    assert load_optimizer(tmp_path / "w.safetensors")[2]["optimizer"]["dtype"] == "bfloat16"


def twice(gradient):
    """A preprocess of one's own, found by its name."""
    return 2 * gradient[None]


twice.num_features = 1  # pyright: ignore[reportFunctionMemberAccess]


def test_a_preprocess_that_is_a_function_is_found_by_name():
    optimizer = l2ljax.lstm((3,), twice)
    assert l2ljax.optimizers.build(optimizer.specification) is optimizer
    assert network_of(optimizer).preprocess is twice


def test_labels_of_another_kind_are_others():
    """A tuple is no list, though both read alike as plain data; groups without labels say so."""
    options = {"start": {"learning_rate": l2ljax.log(0.1)}, "groups": ("a", "b")}
    made = [
        l2ljax.hyperparameters(optax.sgd, labels=labels, **options)
        for labels in (("a", "b"), ["a", "b"])
    ]
    for optimizer, params in zip(made, [(1.0, 2.0), [1.0, 2.0]], strict=True):
        params = jax.tree.map(jnp.float32, params)
        tx = optimizer.transform(optimizer.init(KEY))
        steps, _ = tx.update(params, tx.init(params), params)
        np.testing.assert_allclose(jax.tree.leaves(steps), [-0.1, -0.2], rtol=1e-5)
    with pytest.raises(ValueError, match="are names of labels: give labels, too, or leave both"):
        l2ljax.hyperparameters(optax.sgd, **options)


def test_finding_a_name_in_a_file_leaves_the_path_as_it_was(tmp_path, monkeypatch):
    """Where its folder is on it already, as a script's own is, too."""
    (tmp_path / "own_rules.py").write_text("def rule():\n    return 1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = list(sys.path)
    assert names.find(f"{tmp_path}/own_rules.py:rule")() == 1
    assert sys.path == before
