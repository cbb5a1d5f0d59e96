"""Specifications: what arguments become, which values are the same, and what a name finds."""

import dataclasses
import functools
import importlib.util
import json
import os
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import l2ljax
from l2ljax.base import LearnedOptimizer
from l2ljax.bundled import load_optimizer, save_optimizer
from l2ljax.optimizers import build, network_of
from l2ljax.specification import call_with, names, specified
from l2ljax.specification.plain import Specification, as_plain, specification_of

KEY = jax.random.key(0)
OWN = """
import jax, jax.numpy as jnp, optax, l2ljax
from l2ljax import LearnedOptimizer, specified

@specified()
def scaled(factor=1.0, inner=None, squash=None, dtype=jnp.float32):
    squash = squash or (lambda x: x)
    def transform(phi):
        first = optax.identity() if inner is None else inner.transform(phi["inner"])
        step = lambda updates, params=None: jax.tree.map(lambda u: squash(u) * phi["by"], updates)
        return optax.with_extra_args_support(optax.chain(first, optax.stateless(step)))
    def init(key):
        return {"by": jnp.asarray(factor, dtype)} | ({"inner": inner.init(key)} if inner else {})
    return LearnedOptimizer(init, transform)

def undecorated(factor=1.0):
    return scaled(factor)._replace(specification=None)

def twice(x):
    return 2 * x

def by_name(params):
    return {name: "a" if name == "w" else "b" for name in params}

if __name__ == "__main__":
    import sys
    optimizer = scaled(0.5, inner=l2ljax.lstm((2,)), squash=twice)
    l2ljax.save_optimizer(sys.argv[1], optimizer, optimizer.init(jax.random.key(0)))
    print(optimizer.specification["name"])
"""


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


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A file of one's own in the directory where one works."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    return "own.py"


def updates(optimizer, meta_params, gradient=None):
    gradient = jnp.array([1.0, -3.0]) if gradient is None else gradient
    tx = optimizer.transform(meta_params)
    return tx.update(gradient, tx.init(gradient), gradient)[0]


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


def test_a_reloaded_module_makes_new_values(tmp_path, monkeypatch):
    """The old builder's name finds the new one, so the old has none; partitions do not mix them."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "reloaded_part.py").write_text(OWN)
    module = importlib.import_module("reloaded_part")
    old_builder, old = module.scaled, module.scaled(2.0)
    assert old.specification["name"] == "reloaded_part:scaled"
    before = l2ljax.partition({"a": old}, {"x": "a"})
    (tmp_path / "reloaded_part.py").write_text(OWN.replace("squash(u) *", "7 * squash(u) *"))
    importlib.reload(module)
    assert old_builder(3.0).specification is None
    after = l2ljax.partition({"a": module.scaled(2.0)}, {"x": "a"})
    phi = {"a": {"by": jnp.ones(())}}
    one, seven = (updates(o, phi, {"x": jnp.ones(1)})["x"][0] for o in (before, after))
    assert (float(one), float(seven)) == (1.0, 7.0)


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


def test_partitions_are_saved_with_labels_of_every_kind(own, tmp_path):
    """By the name of the list, a function of one's own, a function in a module, a tree."""
    find = names.find
    members = {"a": l2ljax.lstm((2,)), "b": find("own.py:scaled")(3.0)}
    gradient = {"w": jnp.ones(2), "v": jnp.ones(3)}
    for labels in (find("own.py:by_name"), {"w": "a", "v": "b"}):
        optimizer = l2ljax.partition(members, labels)
        phi = optimizer.init(KEY)
        save_optimizer(tmp_path / "w.safetensors", optimizer, phi)
        loaded, loaded_phi, _ = load_optimizer(tmp_path / "w.safetensors")
        found, expected = updates(loaded, loaded_phi, gradient), updates(optimizer, phi, gradient)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        np.testing.assert_array_equal(found["v"], 3.0)
    conv_fc = l2ljax.partition({"conv": members["a"]}, l2ljax.optimizers.conv_fc_labels)
    assert conv_fc.specification["labels"] == "conv_fc"
    plain = {"name": "partition", "optimizers": {"conv": {"name": "lstm", "hidden_sizes": [2]}}}
    assert build(plain | {"labels": "conv_fc"}) is conv_fc
    named = build(plain | {"labels": "own.py:by_name"})
    assert named.specification["labels"] == {"function": "own.py:by_name"}
    for odd in (("conv",), "conv"):  # would come back as a list, or as a name
        assert l2ljax.partition({"conv": members["a"]}, odd).specification is None


def test_own_builders_with_members_are_built_from_plain_data(own):
    """A learned optimizer, a function and a dtype among the arguments of a builder in a file."""
    plain = {
        "name": "own.py:scaled",
        "factor": 0.25,
        "inner": {"name": "lstm", "hidden_sizes": [2], "preprocess": {"name": "identity"}},
        "squash": {"function": "own.py:twice"},
        "dtype": "bfloat16",
    }
    optimizer = build(plain)
    assert build(plain) is optimizer
    phi = optimizer.init(KEY)
    assert phi["by"].dtype == jnp.bfloat16
    inner = updates(l2ljax.lstm((2,), l2ljax.identity()), phi["inner"])
    np.testing.assert_allclose(updates(optimizer, phi), 2 * 0.25 * inner, rtol=1e-6)
    bare = build({"name": "own.py:undecorated", "factor": 0.5})
    assert bare.specification == {"name": "own.py:undecorated", "factor": 0.5}
    for bad, words in {
        "own.py:missing": "has no attribute 'missing'",
        "own.py:twice": "missing a required argument: 'x'",
        "gone.py:scaled": "names code of your own that is not at hand",
        "no_such_module_:scaled": "names code of your own that is not at hand",
        "subprocess:run": "is no builder of one but",
        "builtins:dict": "is no builder of one but",
        ":scaled": "is no name of code",
    }.items():
        with pytest.raises(ValueError, match=words) as error:
            build({"name": bad})
        assert "\n" not in str(error.value)


def test_a_file_that_fails_is_a_sentence(tmp_path, monkeypatch):
    """Whatever its code raises."""
    monkeypatch.chdir(tmp_path)
    for number, code in enumerate(["def f(:", "1 / 0", "raise RuntimeError('no\\nway')"]):
        (tmp_path / f"bad{number}.py").write_text(code)
        with pytest.raises(ValueError, match=r"running the code of .* failed") as error:
            names.find(f"bad{number}.py:f")
        assert "\n" not in str(error.value)


def test_a_module_that_no_path_leads_to_is_named_by_its_file(own, tmp_path, monkeypatch):
    """As ml_collections loads a configuration; the file is not run a second time here."""
    spec = importlib.util.spec_from_file_location("config_config", tmp_path / own)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "config_config", module)
    spec.loader.exec_module(module)
    assert names.name_of(module.twice) == "own.py:twice"
    assert names.find("own.py:twice") is module.twice
    assert module.scaled(2.0).specification["name"] == "own.py:scaled"


def test_files_find_their_neighbours(tmp_path):
    """As a script does; Python's path is as before."""
    (tmp_path / "a_neighbour.py").write_text("VALUE = 7")
    (tmp_path / "main_part.py").write_text("import a_neighbour\ndef f(): return a_neighbour.VALUE")
    before = list(sys.path)
    assert names.find(f"{tmp_path}/main_part.py:f")() == 7
    assert sys.path == before


def test_a_script_saves_and_another_process_loads(own, tmp_path):
    """Builders of a script are named by its file; where that is not at hand, a sentence."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"
    }  # fmt: skip
    script = [sys.executable, own, "w.safetensors"]
    out = subprocess.run(
        script, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    assert out.stdout.strip() == "own.py:scaled"
    optimizer, phi, metadata = load_optimizer("w.safetensors")
    assert metadata["optimizer"]["squash"] == {"function": "own.py:twice"}
    expected = 2 * 0.5 * updates(l2ljax.lstm((2,)), phi["inner"])
    np.testing.assert_allclose(updates(optimizer, phi), expected, rtol=1e-6)
    (tmp_path / "w.safetensors").rename(tmp_path / "v.safetensors")
    (tmp_path / own).rename(tmp_path / "moved.py")
    sys.modules.pop(optimizer.transform.__module__)
    with pytest.raises(ValueError, match=r"v.safetensors names an optimizer that cannot be built"):
        load_optimizer("v.safetensors")


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
