"""Parts of one's own in configurations, by name; and what comparisons call their optimizers."""

import csv
import json
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_experiment import TINY

import l2ljax
from l2ljax.evaluation import Curve, report
from l2ljax.evaluation._drawing import styles
from l2ljax.experiments import comparison, experiment, parts
from l2ljax.experiments.meta_optimizers import build_meta_optimizer
from l2ljax.experiments.parts import build_task, with_own_names
from l2ljax.specification.names import find

OWN = """
import dataclasses
import jax, jax.numpy as jnp, optax
import l2ljax

def bowl(width=2):
    return l2ljax.Task(
        init=lambda instance, key: jax.random.normal(key, (width,)),
        loss=lambda theta, batch: jnp.sum(theta**2),
    )

def adam(rate=0.1):
    return l2ljax.LearnedOptimizer(
        init=lambda key: jnp.asarray(rate), transform=lambda phi: optax.sgd(jnp.abs(phi))
    )

def late(steps):
    return steps >= 3

@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OneStep(l2ljax.GradientEstimator):
    task: l2ljax.Task
    optimizer: l2ljax.LearnedOptimizer = dataclasses.field(metadata={"static": True})
    num_tasks: int = dataclasses.field(metadata={"static": True})
    scale: float = dataclasses.field(metadata={"static": True})

    def init(self, key, meta_params):
        return ()

    def estimate(self, meta_params, state, key):
        def loss(phi):
            tx = self.optimizer.transform(phi)
            start = l2ljax.init_optimizee(self.task, tx, key)
            return l2ljax.unroll(self.task, tx, start, key, 1, second_derivatives=True)[1][-1]

        value, grads = jax.value_and_grad(loss)(meta_params)
        return value, jax.tree.map(lambda g: self.scale * g, grads), state, {}

def one_step(task, optimizer, num_tasks, scale=1.0):
    return OneStep(task, optimizer, num_tasks, scale)
"""
BASELINES = {"sgd": optax.sgd, "adam": optax.adam}
EVALUATION = TINY["evaluation"] | {"learning_rates": dict.fromkeys(BASELINES, 0.1)}


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    return TINY | {
        "task": {"name": "own.py:bowl", "width": 3},
        "optimizer": {"name": "own.py:adam", "rate": 0.2},
        "estimator": {"name": "own.py:one_step", "scale": 2.0},
        "meta_optimizer": {"name": "optax:sgd", "learning_rate": 0.01},
        "evaluation": EVALUATION,
    }


def test_every_part_may_be_ones_own(own, tmp_path, monkeypatch):
    """It trains and evaluates; config.json and the weights keep the names; `adam` is kept apart."""
    config = {name: value for name, value in own.items() if name != "unroll_length"}
    result = experiment.run(config, tmp_path / "run", command="python", progress=False)
    assert result is not None
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    assert kept["task"]["name"] == "own.py:bowl"
    loaded, phi, metadata = l2ljax.load_optimizer(tmp_path / "run" / "meta_params.safetensors")
    assert metadata["optimizer"] == own["optimizer"] == loaded.specification
    np.testing.assert_array_equal(phi, result.meta_params)

    monkeypatch.setattr(
        comparison.evaluate_weights, "__kwdefaults__",
        comparison.evaluate_weights.__kwdefaults__ | {"baselines": BASELINES},
    )  # fmt: skip
    summary, curves = comparison.evaluate_run(tmp_path / "run", {})
    assert list(curves) == ["learned adam", "sgd", "adam"]
    # gradient descent on |theta|^2: each step multiplies the loss by (1 - 2 rate)^2
    for name, rate in {"learned adam": abs(float(phi)), "sgd": 0.1}.items():
        losses = curves[name].losses
        np.testing.assert_allclose(losses[:, 1:] / losses[:, :-1], (1 - 2 * rate) ** 2, rtol=1e-4)
    comparison.write_results(tmp_path / "evaluation", summary, curves)
    report.save_curves(tmp_path / "evaluation")
    assert report.table(summary).row_count == 3


def test_own_weights_of_the_meta_loss(own):
    """A function of the positions 1 ... T; an estimator that takes no weights refuses them."""
    shared = own | {"estimator": TINY["estimator"], "weights": "own.py:late"}
    built = experiment.build(shared)
    assert built.estimator.weights == built.validation.weights == (0.0, 0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="does not take weights of the steps"):
        experiment.build(own | {"weights": "last"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": {"name": "own.py:adam"}}, "must return an l2ljax.Task"),
        ({"optimizer": {"name": "own.py:bowl"}}, "must return a LearnedOptimizer"),
        ({"estimator": {"name": "own.py:late", "steps": 1}}, "must be a GradientEstimator"),
        ({"estimator": {"name": "own.py:one_step", "num_tasks": 3}}, "estimator.num_tasks is what"),
        ({"meta_optimizer": {"name": "own.py:adam"}}, "meta_optimizer must be an Optax"),
        ({"weights": "own.py:none"}, "has no attribute 'none'"),
        ({"task": {"name": "gone.py:bowl"}}, "not at hand"),
    ],
)
def test_own_parts_of_another_kind_are_refused(own, change, words, tmp_path):
    """Before anything is written."""
    with pytest.raises((ValueError, TypeError), match=words):
        experiment.run(own | change, tmp_path / "run", command="python", progress=False)
    assert not (tmp_path / "run").exists()


def test_estimators_are_given_what_they_take(own):
    """No unroll_length for one that has none; an episode, if that is below 20, for one that has."""
    lacking = {k: v for k, v in own.items() if k != "unroll_length"}
    assert experiment.build(lacking).estimator.scale == 2.0
    built = experiment.build(lacking | {"estimator": TINY["estimator"], "episode_length": 4})
    assert built.estimator.unroll_length == 4
    with pytest.raises(ValueError, match="takes no mesh of devices"):
        experiment.build(own, num_devices=2)


def test_meta_optimizers_of_optax():
    """By name, with a schedule; SGD's step is its rate times the gradient."""
    rate = {"name": "optax:linear_schedule", "init_value": 0.5, "end_value": 0.0}
    plain = {"name": "optax:sgd", "learning_rate": rate | {"transition_steps": 5}}
    tx = build_meta_optimizer(plain, 5)
    state, found = tx.init(jnp.ones(())), []
    for _ in range(3):
        update, state = tx.update(jnp.ones(()), state)
        found.append(float(update))
    np.testing.assert_allclose(found, [-0.5, -0.4, -0.3], rtol=1e-6)


def test_parts_that_a_configuration_registers_are_named_by_its_file(own, monkeypatch, tmp_path):
    """So a process that has not read the configuration finds them; a lambda keeps its name."""
    monkeypatch.setitem(l2ljax.tasks.BUILDERS, "mine", find("own.py:bowl"))
    namespace = {"__name__": "some_config"}  # as a loader that keeps no module
    path = tmp_path / "config.py"
    path.write_text("def inner():\n    return 'labels'")
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    monkeypatch.setitem(l2ljax.optimizers.LABELS, "labels", namespace["inner"])
    monkeypatch.setitem(l2ljax.tasks.BUILDERS, "lambda", lambda: None)
    named = with_own_names(own | {"task": {"name": "mine"}})
    assert named["task"] == {"name": "own.py:bowl"}
    partition = {"name": "partition", "optimizers": {"a": {"name": "lstm"}}, "labels": "labels"}
    assert with_own_names({"optimizer": partition})["optimizer"] == partition | {
        "labels": "config.py:inner"
    }
    assert with_own_names({"task": {"name": "lambda"}}) == {"task": {"name": "lambda"}}


@pytest.mark.parametrize("names", [["lstm-mnist", "a b", "v0.1"], [f"n{i}" for i in range(9)]])
def test_beside_under_any_name_and_in_any_number(names, tmp_path, monkeypatch):
    """What is computed is drawn and printed: with spaces, hyphens, dots, and beyond the styles."""
    losses = np.linspace(1.0, 2.0, 8).reshape(2, 4)
    monkeypatch.setattr(
        comparison, "compare", lambda task, txs, *_, **__: {n: Curve(None, losses) for n in txs}
    )
    odd = ["50 %, $x", "[bold]"[1:], "x, y"]
    beside = dict.fromkeys([*names, *odd], "lstm-quadratic")
    sizes = {"num_tasks": 2, "num_steps": 3, "beside": beside}
    summary, curves = comparison.evaluate_weights("lstm-quadratic", sizes, baselines={})
    assert list(curves) == ["lstm", *names, *odd]
    comparison.write_results(tmp_path, summary, curves)
    with (tmp_path / "curves.csv").open(newline="") as file:
        columns = {k: np.array([*v], float) for k, *v in zip(*csv.reader(file), strict=True)}
    for name in curves:
        np.testing.assert_allclose(columns[f"{name}_mean"], curves["lstm"].losses.mean(0), 1e-6)
    report.save_curves(tmp_path)
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert report.table(summary).row_count == len(curves)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("adam", "'adam', which a baseline has"),
        ("lstm", "'lstm', which the run's own optimizer has"),
        ("_hidden", "begins with a letter or a digit"),
        ("a\nb", "printable"),
        ("a ", "leave out the spaces"),
        ("x" * 61, "at most 60"),
    ],
)
def test_names_that_are_refused(name, words, monkeypatch):
    """Before anything is computed."""
    monkeypatch.setattr(comparison, "compare", lambda *args, **kwargs: pytest.fail("computed"))
    with pytest.raises(ValueError, match=words):
        comparison.evaluate_weights("lstm-quadratic", {"beside": {name: "lstm-mnist"}})


def test_compare_refuses_a_learned_optimizer_with_a_baselines_name():
    """The baseline's curve would replace it."""
    with pytest.raises(ValueError, match="'adam' is a learned optimizer's and a baseline"):
        l2ljax.compare(
            l2ljax.tasks.quadratic(2),
            {"adam": optax.adam(0.1)},
            jax.random.key(0),
            num_tasks=2,
            num_steps=2,
            num_tuning_tasks=2,
        )


def test_more_curves_than_styles_look_different():
    """The first 40."""
    looks = styles([str(i) for i in range(40)])
    assert len({str(style) for style in looks.values()}) == 40


def test_reprs_are_a_line_of_shapes():
    """A task's data, a result's weights and a curve's losses are not printed."""
    task = l2ljax.tasks.mlp(l2ljax.load_dataset("digits", "train"), batch_size=2)
    optimizer = l2ljax.lstm((2,))
    start = optimizer.init(jax.random.key(0))
    result = l2ljax.MetaTrainResult(start, start, 0.5, 1, 1, 0, 0, 0, False, 2.0, [{}])
    nameless = l2ljax.LearnedOptimizer(lambda key: 0.0, lambda phi: optax.sgd(0.1))
    found = [repr(x) for x in (task, optimizer, result, nameless, Curve(None, np.zeros((3, 4))))]
    assert all("\n" not in text and len(text) < 400 for text in found), found
    assert "uint8[" in found[0]
    assert "'hidden_sizes': [2]" in found[1]
    assert "1 meta-updates" in found[2]
    assert "float32[8, 4]" in found[2]
    assert "float64[3, 4]" in found[4]


def test_across_processes_goes_the_specification():
    """Functions inside functions cannot be pickled, as Optax's; what rebuilds them is plain data,
    and an optimizer's state is arrays."""
    optimizer = l2ljax.lstm((2,))
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(optax.adam(1.0))
    sent = pickle.dumps(dict(optimizer.specification))
    assert l2ljax.optimizers.build(pickle.loads(sent)) is optimizer
    state = optimizer.transform(optimizer.init(jax.random.key(0))).init(jnp.ones(2))
    back = pickle.loads(pickle.dumps(state))
    chex.assert_trees_all_equal(back, state)


def test_a_transform_of_a_transform_can_be_configured():
    """As code says it: every `task` is built, whatever names it; 4 times the loss of the inner."""
    inner = {
        "name": "l2ljax.tasks.transforms:scale_loss",
        "low": 2.0,
        "task": {"name": "quadratic"},
    }
    task = build_task({"name": inner["name"], "low": 2.0, "task": inner}, None)
    plain, key = l2ljax.tasks.quadratic(), jax.random.key(0)
    instance, theta = task.sample(task.data, key), jnp.ones(10)
    found = task.loss(theta, task.batch(task.data, instance, key))
    expected = plain.loss(theta, plain.batch(plain.data, instance.inner.inner, key))
    np.testing.assert_allclose(found, 4 * expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("configured", "asked", "taken"),
    [(None, None, None), ("here", None, "here"), (None, "there", "there"), ("a", "b", "b")],
)
def test_a_data_set_is_where_its_configuration_says_unless_asked(
    monkeypatch, configured, asked, taken
):
    """`--data_dir` goes before a `data_dir` of the configuration, which stands without it."""
    monkeypatch.setattr(parts, "load_dataset", lambda name, split, data_dir=None: (name, data_dir))
    given = {"name": "mnist", "split": "train"}
    given |= {} if configured is None else {"data_dir": configured}
    assert parts.load_images("dataset", given, asked) == ("mnist", taken)
