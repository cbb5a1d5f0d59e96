"""A run's directory takes that run alone, and what it came to can be read out of it."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType
from test_meta_train import ADAM, PARABOLA, SMALL, VALIDATION, same, train

import l2ljax
from l2ljax.base import LearnedOptimizer, Task
from l2ljax.estimators import truncated_bptt
from l2ljax.storage.workdir import exclusive
from l2ljax.training.fingerprint import describe
from l2ljax.training.program import program_digest


def noisy(data, scale=2.0):
    """A parabola around one of `data`'s numbers, steeper by `scale`, which is in a closure."""
    return Task(
        init=lambda _, key: jax.random.normal(key),
        sample=lambda data, key: jax.random.choice(key, data),
        loss=lambda x, target: scale * (x - target) ** 2,
        data=jnp.asarray(data),
    )


def estimator(task=None, optimizer=SMALL, **options):
    options = {"num_tasks": 4, "episode_length": 6, "unroll_length": 3} | options
    return truncated_bptt(noisy([1.0, 2.0]) if task is None else task, optimizer, **options)


def arguments(**changes):
    return {
        "estimator": estimator(),
        "meta_optimizer": ADAM,
        "meta_params": SMALL.init(jax.random.key(0)),
        "key": jax.random.key(1),
        "validation": VALIDATION,
        "num_meta_updates": 2,
    } | changes


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A finished run of two updates."""
    workdir = tmp_path_factory.mktemp("run")
    l2ljax.meta_train(**arguments(), workdir=workdir)
    return workdir


OTHERS = {
    "rate": ({"meta_optimizer": optax.adam(1.0)}, "meta_optimizer differs"),
    "injected rate": (
        {"meta_optimizer": optax.inject_hyperparams(optax.adam)(learning_rate=1.0)},
        "meta_optimizer differs",
    ),
    "schedule": (
        {"meta_optimizer": optax.adam(optax.cosine_decay_schedule(1e-2, 9))},
        "meta_optimizer differs",
    ),
    "key": ({"key": jax.random.key(2)}, "key differs"),
    "old key": ({"key": jax.random.PRNGKey(1)}, "key differs"),
    "weights": (
        {"meta_params": SMALL.init(jax.random.key(3))},
        "the initial meta_params differs",
    ),
    "data": ({"estimator": estimator(noisy([1.0, 2.5]))}, r"estimator\.task\.data differs"),
    "closure": ({"estimator": estimator(noisy([1.0, 2.0], 3.0))}, "what the estimator computes"),
    "episode": (
        {"estimator": estimator(episode_length=9)},
        r"estimator\.episode_length is 6 there, 9 here",
    ),
    "share": ({"estimator": estimator(coordinate_share=0.5)}, "coordinate_share is 1.0 there, 0.5"),
    "stagger": (
        {"estimator": estimator(stagger=True)},
        "estimator is TruncatedBPTT there, StaggeredBPTT here",
    ),
    "step weights": ({"estimator": estimator(weights=[0, 0, 0, 0, 0, 1])}, r"estimator\.weights"),
    "optimizer": (
        {"estimator": estimator(optimizer=l2ljax.lstm((3,), output_scale=0.5))},
        r"estimator\.optimizer\.output_scale is 0\.1 there, 0\.5 here",
    ),
    "validation": ({"validation": None}, "validation is Validation there, None here"),
    "its key": (
        {"validation": dataclasses.replace(VALIDATION, key=jax.random.key(8))},
        r"validation\.key differs",
    ),
    "its times": ({"validate_every": 1}, r"validation\.every is 100 there, 1 here"),
    "limits": ({"max_restores": 1}, "max_restores is 3 there, 1 here"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_run_is_refused(workdir, name):
    """In one sentence that names what differs, though all shapes agree; nothing is touched."""
    changes, words = OTHERS[name]
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=f"{workdir} holds another run: .*{words}") as caught:
        l2ljax.meta_train(**arguments(**changes), workdir=workdir)
    assert "\n" not in str(caught.value)
    told = str(caught.value).count(" differs") + str(caught.value).count(" there, ")
    assert told == (2 if name == "episode" else 1)  # a longer one has more weights
    assert {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()} == before


def test_a_mesh_is_no_other_run(workdir):
    """Its programs know of shardings, which no number depends on."""
    over_a_mesh = estimator(mesh=jax.make_mesh((1,), ("tasks",), axis_types=(AxisType.Auto,)))
    again = l2ljax.meta_train(**arguments(estimator=over_a_mesh), workdir=workdir)
    assert again.num_meta_updates == 2


def test_devices_with_their_own_parts_of_the_data_are_another_run():
    """Four draw others than two, or than one that has all; sharing all of it is no difference."""
    mesh = jax.make_mesh((1,), ("tasks",), axis_types=(AxisType.Auto,))
    whole, split = estimator(mesh=mesh), estimator(mesh=mesh, shard_data=True)
    assert describe(whole) == describe(split) == describe(estimator())
    found = []
    for number in (2, 4):
        over = dataclasses.replace(split, mesh=AbstractMesh((number,), ("tasks",)))
        found.append(describe(over))
        assert describe(dataclasses.replace(over, shard_data=False)) == describe(whole)
    assert found[0] != found[1]
    assert describe(whole) not in found


def test_a_field_called_mesh_may_be_anything():
    """Such as the nodes of finite elements: they are content, and tell runs apart."""

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Elements:
        mesh: jax.Array

    found = [describe(Elements(jnp.full((4, 2), size))) for size in (1.0, 2.0)]
    assert found[0] != found[1]


def test_the_same_run_made_anew_goes_on(workdir):
    """Other objects with equal content; without its weights, and with more patience."""
    again = l2ljax.meta_train(
        **arguments(
            meta_optimizer=optax.adam(1e-2),
            meta_params=jax.eval_shape(SMALL.init, jax.random.key(0)),
        ),
        max_restores=9,
        log_every=1,
        checkpoint_every=1,
        workdir=workdir,
    )
    assert again.num_meta_updates == 2
    assert same(again.meta_params, l2ljax.load_run(workdir).meta_params)


def test_shapes_need_a_checkpoint(tmp_path):
    """There is nothing else to start from."""
    shapes = jax.eval_shape(SMALL.init, jax.random.key(0))
    with pytest.raises(ValueError, match="meta_params are shapes without numbers"):
        l2ljax.meta_train(**arguments(meta_params=shapes), workdir=tmp_path)


def test_a_digest_does_not_depend_on_the_process(tmp_path):
    """Nor on the order of sets in it."""
    code = """
import jax, jax.numpy as jnp, l2ljax, optax
from l2ljax.training.program import program_digest
e = l2ljax.truncated_bptt(l2ljax.tasks.quadratic(2), l2ljax.lstm((2,)), num_tasks=2,
    episode_length=2, unroll_length=2)
def step(key):
    phi = l2ljax.lstm((2,)).init(key)
    return e.estimate(phi, e.init(key, phi), key)
print(program_digest(step, jax.random.key(0)))
"""
    run = [sys.executable, "-c", code]
    found = {
        subprocess.run(
            run, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in "12"
    }
    assert len(found) == 1


def test_a_digest_sees_constants_inside():
    """In a scan in a jitted function in a branch: an array, and a number."""

    def program(array, number):
        def step(carry, _):
            return jax.jit(lambda x: jnp.where(x > 0, x @ array, number * x))(carry), None

        def function(x):
            return jax.lax.cond(x[0] > 1, lambda x: jax.lax.scan(step, x, None, 3)[0], jnp.sin, x)

        return program_digest(function, jnp.ones(2))

    one = np.eye(2, dtype=np.float32)
    other = one + np.float32([[0, 1e-6], [0, 0]])
    assert program(one, 2.0) == program(one.copy(), 2.0)
    assert len({program(one, 2.0), program(one, 2.5), program(other, 2.0)}) == 3


def test_one_process_a_workdir(tmp_path):
    """`meta_train` itself refuses the second, and writes nothing."""
    with (
        exclusive(tmp_path),
        pytest.raises(BlockingIOError, match="Another process is working in"),
    ):
        train(2, workdir=tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
    assert train(2, workdir=tmp_path).num_meta_updates == 2


@pytest.mark.parametrize("number", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_without_locks_it_goes_on_with_a_warning(tmp_path, monkeypatch, number):
    """On a file system that has none."""
    import errno
    import fcntl

    def no_flock(*_):
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    monkeypatch.setattr(fcntl, "flock", no_flock)
    with pytest.warns(UserWarning, match="flock not supported|has no locks"), exclusive(tmp_path):
        pass


def test_load_run(workdir, tmp_path):
    """What meta_train returned, and the optimizer itself; without one that can be found, by name.

    A run of another optimizer is refused.
    """
    run = l2ljax.load_run(workdir)
    assert run.optimizer is SMALL
    assert not run.interrupted
    assert [record["update"] for record in run.history] == [2, 2]
    mine = LearnedOptimizer(SMALL.init, SMALL.transform)
    whole = l2ljax.meta_train(
        **arguments(estimator=estimator(optimizer=mine), validation=None), workdir=tmp_path
    )
    nested, given = l2ljax.load_run(tmp_path), l2ljax.load_run(tmp_path, mine)
    assert nested.optimizer is None
    assert same(nested.meta_params, whole.meta_params)
    assert given.optimizer is mine
    assert same(given.last_meta_params, whole.last_meta_params)
    with pytest.raises(ValueError, match="are not those of the optimizer"):
        l2ljax.load_run(tmp_path, l2ljax.lstm((5,)))
    with pytest.raises(FileNotFoundError, match="holds no run with a checkpoint"):
        l2ljax.load_run(tmp_path / "other")


def test_a_hook_sees_each_record_and_may_stop_the_run(tmp_path):
    """As a signal does, with a checkpoint; the run goes on from it as if it had not stopped."""
    seen = []

    def hook(record):
        seen.append(record)
        return record.get("validation_loss") is not None and record["update"] == 4

    stopped = train(8, workdir=tmp_path / "run", hook=hook)
    assert seen == stopped.history
    assert (stopped.num_meta_updates, stopped.interrupted) == (4, True)
    assert l2ljax.load_run(tmp_path / "run").interrupted
    resumed, whole = train(8, workdir=tmp_path / "run"), train(8)
    assert same(resumed.last_meta_params, whole.last_meta_params)
    assert resumed.history == whole.history
    assert train(2, hook=lambda record: record.clear()).history == whole.history[:3]
    with pytest.raises(TypeError, match="hook must be a function"):
        train(2, hook=1)


def test_the_docstrings_own_optimizer_is_compiled_once():
    """Its meta-parameters are weakly typed numbers."""
    learned = LearnedOptimizer(
        init=lambda key: jnp.log(0.1),
        transform=lambda rate: optax.with_extra_args_support(optax.scale(-jnp.exp(rate))),
    )
    before = l2ljax.training.meta_step._cache_size()
    l2ljax.meta_train(
        estimator(PARABOLA, learned),
        optax.sgd(0.1),
        learned.init(jax.random.key(0)),
        jax.random.key(0),
        num_meta_updates=4,
    )
    assert l2ljax.training.meta_step._cache_size() == before + 1


def test_what_a_checkpoint_says_is_json(workdir):
    """Of a few kilobytes, however large the task's data."""
    from l2ljax.storage import checkpoint

    assert len(json.dumps(checkpoint.load(workdir / "checkpoints").extra)) < 4000
