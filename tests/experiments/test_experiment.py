"""Configurations: every one in configs/ builds, and a small run goes from start to figures."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from l2ljax.evaluation import report
from l2ljax.experiments import comparison, experiment
from l2ljax.experiments.experiment import DEFAULTS
from l2ljax.paper import figures
from l2ljax.storage.workdir import claim, exclusive

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(ROOT.glob("configs/*.py"))
TINY = DEFAULTS | {
    "num_meta_updates": 3,
    "num_tasks": 2,
    "episode_length": 4,
    "unroll_length": 2,
    "task": {"name": "quadratic", "dim": 2},
    "optimizer": {"name": "lstm", "hidden_sizes": [3], "preprocess": {"name": "identity"}},
    "validation": {"num_tasks": 2, "every": 2},
    "evaluation": {"num_tasks": 3, "num_steps": 5, "num_tuning_tasks": 2, "task": {}},
}


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config().to_dict()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds_and_makes_two_updates(path, tmp_path):
    """At reduced size, on the digits where it would need a data set from TFDS."""
    config = load(path)
    experiment.check_fields(config)
    config |= {"num_meta_updates": 2, "num_tasks": 2, "episode_length": 2, "unroll_length": 2}
    config["meta_optimizer"]["restarts"] = ()
    config["validation"] |= {"num_tasks": 2}
    if "dataset" in config["task"]:
        config["task"]["dataset"] = {"name": "digits", "split": "train"}
    for _, stage in config["estimator"].get("stages", ()):
        if "dataset" in stage.get("task", {}):
            stage["task"]["dataset"] = {"name": "digits", "split": "train"}
    if "size" in config["task"]:
        config["task"] |= {"size": 16, "num_crops": 2}
    if "num_perturbations" in config["estimator"]:
        config["estimator"] |= {"num_perturbations": 2}
    if "mixtures:suite" in config["estimator"]["name"]:  # some of whose tasks need images
        config["estimator"] |= {"tasks": ["quadratic", "teacher-8"]}
    result = experiment.run(config, tmp_path, command="python", progress=False)
    assert np.isfinite(result.best_score)
    assert (tmp_path / "meta_params.safetensors").exists()


def test_a_run_from_start_to_figures(tmp_path):
    """What a finished workdir and its evaluation hold; started again, the run is done."""
    assert experiment.run(TINY, tmp_path, command="python x", progress=False) is not None
    names = {path.name for path in tmp_path.iterdir()}
    history = {"metrics.jsonl", "seconds.jsonl"}
    assert names == {"config.json", "checkpoints", "meta_params.safetensors", *history}
    assert experiment.run(TINY, tmp_path, command="python x", progress=False) is None

    summary, curves = comparison.evaluate_run(tmp_path, {"num_tasks": 5})
    assert list(summary["optimizers"]) == ["lstm", "sgd", "rmsprop", "adam", "nag"]
    assert (summary["task"], summary["num_tasks"], summary["num_steps"]) == ("quadratic", 5, 5)
    assert summary["optimizers"]["lstm"]["learning_rate"] is None
    assert summary["optimizers"]["adam"]["learning_rate"] > 0

    directory = tmp_path / "evaluation"
    comparison.write_results(directory, summary, curves)
    assert json.loads((directory / "summary.json").read_text()) == summary
    table = np.genfromtxt(directory / "curves.csv", delimiter=",", names=True)
    np.testing.assert_allclose(table["adam_mean"], curves["adam"].losses.mean(axis=0), rtol=1e-6)
    assert (table["adam_ci95_low"] <= table["adam_mean"]).all()
    np.testing.assert_array_equal(table["step"], range(6))

    report.save_curves(directory)
    assert (directory / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert report.table(summary).row_count == 5


def test_changes_to_the_evaluations_task_leave_its_others_as_configured(tmp_path):
    """Such as a held-out split: a start a million times as small stays, whatever else is asked."""
    of_small = {**TINY["evaluation"], "task": {"init_scale": 1e-6, "target_scale": 1e-6}}
    config = TINY | {"evaluation": of_small}
    assert experiment.run(config, tmp_path, command="python x", progress=False) is not None
    summary, curves = comparison.evaluate_run(tmp_path, {"task": {"dim": 3}})
    assert summary["task_arguments"] == TINY["task"] | of_small["task"] | {"dim": 3}
    assert curves["sgd"].losses[:, 0].max() < 1e-9


def test_gradient_scales_make_up_for_the_size_of_a_loss():
    """A quadratic with W and y twice as large has four times the loss, and so its gradients."""
    weights, shared = "lstm-quadratic", {"num_tasks": 3, "num_steps": 20}
    larger = {"name": "quadratic", "matrix_scale": 2.0, "target_scale": 2.0}
    _, expected = comparison.evaluate_weights(weights, shared | {"task": larger}, baselines={})
    scaled = {"beside": {"as_it_is": weights}, "gradient_scales": {"lstm": 4.0}}
    _, found = comparison.evaluate_weights(weights, shared | scaled, baselines={})
    np.testing.assert_allclose(4 * found["lstm"].losses, expected["lstm"].losses, rtol=1e-4)
    assert not np.allclose(4 * found["as_it_is"].losses, expected["lstm"].losses, rtol=0.1)


@pytest.mark.parametrize(
    ("scales", "words"),
    [
        ({"adam": 4.0}, "names 'adam', which is not evaluated as a learned optimizer"),
        ({"lstm": -1.0}, "gradient_scales.lstm must be a finite number above 0"),
        (4.0, "evaluation.gradient_scales must be a"),
    ],
)
def test_gradient_scales_that_are_refused(scales, words):
    with pytest.raises((ValueError, TypeError), match=words):
        comparison.evaluate_weights("lstm-quadratic", {"gradient_scales": scales}, baselines={})


def test_weights_of_the_meta_loss():
    """All alike, rising with t, or the last only; training and validation have the same."""
    for name, expected in {
        "all": (1.0, 1.0, 1.0, 1.0),
        "rising": (0.4, 0.8, 1.2, 1.6),
        "last": (0.0, 0.0, 0.0, 1.0),
    }.items():
        built = experiment.build(TINY | {"weights": name})
        np.testing.assert_allclose(built.estimator.weights, expected)
        np.testing.assert_allclose(built.validation.weights, expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_meta_update": 3}, "unknown: num_meta_update"),
        ({"weights": "first"}, r"weights must be one of \['all', 'rising', 'last', 'log_spaced'\]"),
        ({"optimizer": {"name": "adam"}}, "Unknown optimizer 'adam'"),
        (
            {"task": {"name": "cubic"}},
            "Unknown task 'cubic'; there are autoencoder, byte_model",
        ),
        ({"task": {"name": "quadratic", "size": 3}}, "unexpected keyword argument 'size'"),
        ({"estimator": {"name": "reinforce"}}, "Unknown estimator 'reinforce'"),
        ({"meta_optimizer": {"name": "lbfgs"}}, "Unknown meta_optimizer 'lbfgs'"),
        ({"unroll_length": 3}, "does not divide"),
        ({"max_consecutive_skips": 0}, "max_consecutive_skips must be an integer of at least 1"),
        ({"max_restores": -1}, "max_restores must be an integer of at least 0"),
    ],
)
def test_bad_configurations_are_refused(change, words, tmp_path):
    """Before anything is written."""
    with pytest.raises(ValueError, match=words):
        experiment.run(TINY | change, tmp_path / "run", command="python", progress=False)
    assert not (tmp_path / "run").exists()


def test_what_is_nested_beyond_reason_is_refused_by_a_run(tmp_path):
    """Whichever part of it looks into the value first."""
    deep = []
    for _ in range(5000):
        deep = [deep]
    config = TINY | {"meta_optimizer": TINY["meta_optimizer"] | {"clip_norm": deep}}
    with pytest.raises(ValueError, match="nested too deeply: a configuration has 10 levels"):
        experiment.run(config, tmp_path, command="python", progress=False)


def test_missing_fields_are_named():
    """Both at once; what else is left out has a default."""
    config = {name: value for name, value in TINY.items() if name not in ("optimizer", "task")}
    with pytest.raises(ValueError, match=r"missing: task, optimizer\); it must have task and opt"):
        experiment.check_fields(config)
    with pytest.raises(ValueError, match=r"unknown: tusk; missing: task, optimizer"):
        experiment.check_fields({"tusk": 3})


def test_a_workdir_of_another_configuration_is_refused(tmp_path):
    """Each field that differs is named, nested ones by their path."""
    claim(tmp_path, TINY)
    claim(tmp_path, TINY)
    claim(tmp_path, TINY | {"later": (1, 2)}, {"later": [1, 2]})  # a field there was not then
    words = r"seed is 0 there, 1 here; task\.dim is 2 there, 3 here"
    with pytest.raises(ValueError, match=words):
        claim(tmp_path, TINY | {"seed": 1, "task": {"name": "quadratic", "dim": 3}})
    assert json.loads((tmp_path / "config.json").read_text()) == json.loads(json.dumps(TINY))


def test_unfinished_runs_cannot_be_evaluated(tmp_path):
    """No run at all, one that is not finished, and a broken config.json."""
    with pytest.raises(FileNotFoundError, match="holds no run"):
        comparison.evaluate_run(tmp_path, {})
    claim(tmp_path, TINY)
    with pytest.raises(FileNotFoundError, match="not finished"):
        comparison.evaluate_run(tmp_path, {})
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        comparison.evaluate_run(tmp_path, {})


def test_a_second_process_in_a_workdir_is_refused(tmp_path):
    """While the first is in it, in a sentence; afterwards it may go on."""
    claim(tmp_path, TINY)
    with (
        exclusive(tmp_path),
        pytest.raises(BlockingIOError, match="Another process is working in"),
    ):
        experiment.run(TINY, tmp_path, command="python", progress=False)
    assert not list((tmp_path / "checkpoints").glob("*.safetensors"))
    assert experiment.run(TINY, tmp_path, command="python", progress=False) is not None


def test_cosine_restarts():
    """The rate is at its peak at 0 and at each restart, half way down between, 0 at the end."""
    import jax.numpy as jnp

    tx = experiment.adam(30, 0.1, clip_norm=1.0, restarts=(10,))
    params, state = jnp.zeros(()), tx.init(jnp.zeros(()))
    sizes = []
    for _ in range(30):
        # Adam's step under a constant gradient is its rate, up to eps
        updates, state = tx.update(jnp.ones(()), state, params)
        sizes.append(-float(updates))
    for update, rate in {0: 0.1, 5: 0.05, 10: 0.1, 20: 0.05}.items():
        np.testing.assert_allclose(sizes[update], rate, rtol=1e-3)
    assert sizes[9] < 0.01
    assert sizes[29] < 0.01
    with pytest.raises(ValueError, match="restarts must ascend"):
        experiment.adam(30, 0.1, clip_norm=1.0, restarts=(20, 10))


def test_figures_without_matplotlib_say_how_to_get_it(monkeypatch, tmp_path):
    """The extra is named."""
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "l2ljax\[plots\]"'):
        figures.save_preprocessing(tmp_path / "p.png")


def test_preprocessing_figure(tmp_path):
    """The figure of the paper's appendix is drawn."""
    figures.save_preprocessing(tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_the_outermost_estimator_may_draw_its_lengths():
    """Bounds in its specification; validation keeps the configuration's length."""
    drawn = {"name": "pes", "num_perturbations": 2, "sigma": 0.1, "episode_length": [3, 8]}
    built = experiment.build(TINY | {"estimator": drawn})
    assert built.estimator.episode_lengths == (3, 8)
    assert built.validation.num_steps == TINY["episode_length"]
    differentiated = {"name": "truncated_bptt", "episode_length": [3, 8], "stagger": True}
    built = experiment.build(TINY | {"estimator": differentiated})
    assert (built.estimator.shortest_episode, built.estimator.episode_length) == (3, 8)
    with pytest.raises(ValueError, match=r"estimator\.episode_length is what the rest"):
        experiment.build(TINY | {"estimator": drawn | {"episode_length": 3}})
