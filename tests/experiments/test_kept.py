"""What an evaluation has finished is kept until all is, and serves the very same work alone."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax import LearnedOptimizer, Task
from l2ljax.evaluation import Curve, Stage, compare
from l2ljax.experiments.comparison import _around
from l2ljax.experiments.kept import Kept, forget
from l2ljax.optimizers import lstm
from l2ljax.tasks import quadratic

ROOT = Path(__file__).parents[2]
TASK = Task(
    init=lambda instance, key: jax.random.normal(key, (2,)),
    loss=lambda params, batch: jnp.sum((params - batch) ** 2),
    sample=lambda data, key: data,
    data=jnp.ones(2),
)
LEARNED = LearnedOptimizer(
    init=lambda key: jnp.float32(0.1),
    transform=lambda rate: optax.with_extra_args_support(optax.sgd(rate)),
)
PAIR = (LEARNED, jnp.float32(0.25))
KEY = jax.random.key(0)


def comparison(around, learned=None, task=TASK, key=KEY):
    return compare(
        task,
        {"mine": PAIR} if learned is None else learned,
        key,
        num_tasks=3,
        num_steps=4,
        num_tuning_tasks=2,
        baselines={"sgd": optax.sgd},
        learning_rates={"sgd": (0.1, 0.3, 1.0)},
        around=around,
    )


def told_of(folder, key=KEY, stop_at=None):
    """An `around` that keeps in `folder`, and what it tells; Ctrl-C comes in stage `stop_at`."""
    told = []

    def tell(stage, event):
        told.append(f"{stage.work} {stage.name} {event}")
        if (stage.number, event) == (stop_at, "begins"):
            raise KeyboardInterrupt

    return _around(Kept(folder, key, {}), tell), told


ALL = ["evaluating mine", "tuning sgd", "evaluating sgd"]


def test_an_evaluation_that_was_cut_goes_on_and_ends_as_if_left_alone(tmp_path):
    """Two stages of three are taken from the folder; every number is that of a run left alone."""
    alone = comparison(lambda stage, compute: compute())
    around, told = told_of(tmp_path, stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        comparison(around)
    done = [f"{what} {event}" for what in ALL for event in ("begins", "done")]
    assert told == done[:5]
    around, told = told_of(tmp_path)
    found = comparison(around)
    assert told == [f"{what} kept" for what in ALL[:2]] + done[4:]
    assert found.keys() == alone.keys()
    for name, curve in alone.items():
        assert (found[name].learning_rate, found[name].tuning) == (
            curve.learning_rate,
            curve.tuning,
        )
        np.testing.assert_array_equal(found[name].losses, curve.losses)
        assert found[name].losses.dtype == curve.losses.dtype
    around, told = told_of(tmp_path)
    comparison(around)
    assert told == [f"{what} kept" for what in ALL]


def scaled(task, by):
    return dataclasses.replace(task, loss=lambda params, batch: by * task.loss(params, batch))


CHANGED = {  # what is given, and which of the stages it leaves as they were
    "other meta-parameters": ({"learned": {"mine": (LEARNED, jnp.float32(0.5))}}, ALL[1:]),
    "another rule": (
        {"learned": {"mine": (LEARNED._replace(transform=optax.adam), PAIR[1])}},
        ALL[1:],
    ),
    "one more optimizer": ({"learned": {"mine": PAIR, "other": optax.sgd(0.5)}}, ALL),
    "another function of the task": ({"task": scaled(TASK, 2.0)}, []),
    "other data of the task": ({"task": dataclasses.replace(TASK, data=jnp.zeros(2))}, []),
    "another key": ({"key": jax.random.key(1)}, []),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_is_of_other_work_is_not_used(name, tmp_path):
    changes, same = CHANGED[name]
    comparison(told_of(tmp_path)[0])
    around, told = told_of(tmp_path, changes.get("key", KEY))
    comparison(around, **changes)
    assert [line.removesuffix(" kept") for line in told if line.endswith("kept")] == same


@pytest.mark.parametrize(
    "setting", [{"num_steps": 5}, {"at_once": 2}, {"learning_rate": [0.1, 0.3]}, {"num_tasks": 9}]
)
def test_settings_are_part_of_the_work(setting, tmp_path):
    settings = {"num_tasks": 3, "num_steps": 4, "at_once": 64, "learning_rate": [0.1, 1.0]}
    stage = Stage("tuning", "sgd", 1, 1, TASK, optax.sgd, settings)
    result = comparison(lambda stage, compute: compute())["sgd"].tuning
    kept = Kept(tmp_path, KEY, {})
    kept.keep(stage, result)
    assert kept.find(stage) == result
    assert kept.find(stage._replace(settings=settings | setting)) is None
    assert kept.find(stage._replace(optimizer=optax.adam)) is None
    assert kept.find(stage._replace(name="SGD")) is None
    assert Kept(tmp_path, KEY, {"unseen": {"name": "digits"}}).find(stage) is None


def test_what_has_been_traced_before_changes_nothing(tmp_path):
    """The first use of a rule may leave equations in its program that only fill a cache."""
    task, optimizer = quadratic(2), lstm((2,))
    pair = (optimizer, optimizer.init(KEY))
    settings = {"num_tasks": 3, "num_steps": 4, "learning_rate": None}
    stage = Stage("evaluating", "lstm", 1, 1, task, pair, settings)
    result = comparison(lambda stage, compute: compute())["mine"]
    jax.clear_caches()
    kept = Kept(tmp_path, KEY, {})
    kept.keep(stage, result)
    jax.jit(optimizer.transform(pair[1]).init)({"w": jnp.ones(3)})
    found = kept.find(stage)
    assert found is not None
    np.testing.assert_array_equal(found.losses, result.losses)


def test_a_damaged_file_is_computed_anew(tmp_path):
    comparison(told_of(tmp_path)[0])
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-5])
    around, told = told_of(tmp_path)
    comparison(around)
    assert not [line for line in told if line.endswith("kept")]


SMALL = ["--weights=lstm-quadratic", "--num_tasks=4", "--num_steps=30"]


HEEDS_CTRL_C = (  # as a shell that runs the tests in the background would have it ignore
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from l2ljax.command import main; sys.exit(main(['evaluate', *sys.argv[1:]]))"
)


def start(output):
    return subprocess.Popen(
        [sys.executable, "-c", HEEDS_CTRL_C, *SMALL, f"--output={output}"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
def test_a_killed_evaluation_goes_on(tmp_path):
    """Killed after two stages, interrupted after four: the numbers of one that was left alone."""
    alone, cut = tmp_path / "alone", tmp_path / "cut"
    assert start(alone).wait(timeout=300) == 0
    for stages, number in ((2, signal.SIGKILL), (4, signal.SIGINT)):
        process = start(cut)
        while len(list(cut.glob("unfinished/*.safetensors"))) < stages:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
        assert process.returncode == (-9 if number == signal.SIGKILL else 130)
        assert not (cut / "summary.json").exists()
    assert " of 9 stages are in " in err
    assert "the same command goes on from there" in err
    process = start(cut)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert err.count("before; kept") >= 4
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (alone, cut)]
    assert summaries[0] == summaries[1]
    assert not (cut / "unfinished").exists()


def test_only_what_was_kept_is_forgotten(tmp_path):
    """A file of the user's own stays, in its folder."""
    stage = Stage("tuning", "my adam", 1, 1, quadratic(2), optax.adam, {"learning_rate": [0.1]})
    kept = Kept(tmp_path / "unfinished", jax.random.key(0), {})
    kept.keep(stage, Curve(0.1, np.ones((2, 3))))
    (tmp_path / "unfinished" / "tuning-notes.safetensors").write_text("mine")
    assert kept.find(stage) is not None
    forget(kept.folder)
    assert [path.name for path in kept.folder.iterdir()] == ["tuning-notes.safetensors"]
    (kept.folder / "tuning-notes.safetensors").unlink()
    forget(kept.folder)
    assert not kept.folder.exists()
