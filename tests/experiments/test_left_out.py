"""Configurations that leave fields out: each has its default wherever one is read."""

import json

import jax
import numpy as np
import pytest
from test_experiment import TINY

from l2ljax.bundled import save_optimizer
from l2ljax.command import main
from l2ljax.evaluation import BASELINES
from l2ljax.experiments import comparison, experiment
from l2ljax.optimizers import build


@pytest.mark.parametrize("name", sorted(set(TINY) - {"task", "optimizer"}))
def test_each_field_with_a_default_may_be_left_out(name):
    """It is then what the default says: of `unroll_length` an episode of 4 steps, not 20."""
    config = {field: value for field, value in TINY.items() if field != name}
    found = experiment.completed(config)
    assert found == config | {name: found[name]} if name != "unroll_length" else found == config
    built = experiment.build(config)
    expected = {**experiment.DEFAULTS, "num_tasks": 64}.get(name)
    if name in ("num_tasks", "episode_length"):
        assert getattr(built.estimator, name) == expected
    elif name == "unroll_length":
        assert built.estimator.unroll_length == 4
    elif name == "validation":
        assert (built.validation.num_tasks, built.validation.num_steps) == (64, 4)
    elif name == "weights":
        np.testing.assert_array_equal(built.validation.weights, np.ones(4))
    elif name == "evaluation":
        assert found[name]["num_steps"] == 4  # an episode's
    else:
        assert name not in ("seed", "checkpoint_every") or found[name] == expected


SMALLEST = {
    "task": {"name": "quadratic", "dim": 2},
    "optimizer": {"name": "lstm", "hidden_sizes": [3]},
    "estimator": {"name": "truncated_bptt"},
}


def test_the_smallest_configuration_trains_evaluates_and_goes_on(tmp_path, monkeypatch, capsys):
    """By the command: task, optimizer and estimator are said, and flags change what is not."""
    (tmp_path / "mine.py").write_text(f"def get_config():\n    return {SMALLEST}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("l2ljax.command.train.set_up", lambda: None)
    sizes = ["num_meta_updates=2", "num_tasks=2", "episode_length=3", "validation.num_tasks=2"]
    words = ["mine.py", "--workdir=run", "--quiet", *(f"--config.{size}" for size in sizes)]
    assert main(["train", *words]) == 0, capsys.readouterr().err
    there = json.loads((tmp_path / "run" / "config.json").read_text())
    assert SMALLEST.items() <= there.items()
    assert (there["num_tasks"], there["checkpoint_every"], there["weights"]) == (2, 500, "all")
    assert there["validation"] == {"num_tasks": 2, "every": 50}
    assert main(["train", *words]) == 0  # done: the same configuration
    assert main(["report", "run"]) == 0
    overrides = {"num_tasks": 2, "num_tuning_tasks": 2}
    monkeypatch.setitem(
        comparison.evaluate_weights.__kwdefaults__, "baselines", {"sgd": BASELINES["sgd"]}
    )
    summary, _ = comparison.evaluate_run("run", overrides)
    assert (list(summary["optimizers"]), summary["num_steps"]) == (["lstm", "sgd"], 3)


def test_flags_change_what_is_left_out_in_part(tmp_path, monkeypatch, capsys):
    """A validation without `every`, no evaluation: that is as long as the episode by its flag."""
    given = SMALLEST | {"validation": {"num_tasks": 2}, "num_meta_updates": 1, "num_tasks": 2}
    (tmp_path / "mine.py").write_text(f"def get_config():\n    return {given}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("l2ljax.command.train.set_up", lambda: None)
    flags = ["evaluation.num_tasks=3", "evaluation.at_once=5", "validation.every=7"]
    words = [f"--config.{flag}" for flag in [*flags, "episode_length=3"]]
    assert main(["train", "mine.py", "--workdir=run", "--quiet", *words]) == 0, capsys.readouterr()
    there = json.loads((tmp_path / "run" / "config.json").read_text())
    assert there["validation"] == {"num_tasks": 2, "every": 7}
    evaluation = {"num_tasks": 3, "num_steps": 3, "num_tuning_tasks": 64, "at_once": 5}
    assert there["evaluation"] == evaluation
    assert main(["train", "mine.py", "--workdir=run", "--config.validation.evry=7"]) == 2
    assert 'does not have: "evry"' in capsys.readouterr().err


def test_a_run_whose_files_leave_fields_out_is_evaluated(tmp_path, monkeypatch):
    """Made by hand or by another version: what is not said has its default there, too."""
    optimizer = build({"name": "lstm", "hidden_sizes": [3]})
    meta_params = optimizer.init(jax.random.key(0))
    (tmp_path / "config.json").write_text(json.dumps(SMALLEST))
    path = tmp_path / "meta_params.safetensors"
    save_optimizer(path, optimizer, meta_params, {"config": SMALLEST})
    sizes = {"num_tasks": 2, "num_steps": 2, "num_tuning_tasks": 2}
    monkeypatch.setitem(comparison.evaluate_weights.__kwdefaults__, "baselines", {})
    summary, _ = comparison.evaluate_run(tmp_path, sizes)
    assert (summary["seed"], summary["num_steps"]) == (0, 2)


def test_an_evaluation_on_another_task_is_called_by_that(tmp_path, monkeypatch):
    optimizer = build({"name": "lstm", "hidden_sizes": [3]})
    path = tmp_path / "meta_params.safetensors"
    save_optimizer(path, optimizer, optimizer.init(jax.random.key(0)), {"config": SMALLEST})
    monkeypatch.setitem(comparison.evaluate_weights.__kwdefaults__, "baselines", {})
    sizes = {"num_tasks": 2, "num_steps": 2, "num_tuning_tasks": 2}
    other = {"task": {"name": "rosenbrock", "dim": 2}}
    summary, _ = comparison.evaluate_weights(path, sizes | other)
    assert (summary["task"], summary["task_arguments"]["name"]) == ("rosenbrock", "rosenbrock")
