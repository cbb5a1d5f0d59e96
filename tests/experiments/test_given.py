"""What an adaptation is given, and what it chooses where nothing is given."""

import jax
import jax.numpy as jnp
import optax
import pytest

import l2ljax
from l2ljax.experiments.adaptation.choosing import Sizes, choose_estimator
from l2ljax.experiments.adaptation.given import find_task


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a file of a user's own where Python was started."""
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        (tmp_path / name).write_text("import jax\nfrom l2ljax import Task\n" + text)
        return name

    return write


def test_tasks_of_a_file(own):
    """The only one, the one called `task`, one by name, a function; and what is refused."""
    bowl = "Task(init=lambda i, key: jax.random.normal(key), loss=lambda p, b: p**2)\n"
    assert isinstance(find_task(own("one.py", f"mine = {bowl}"))[0], l2ljax.Task)
    several = own("several.py", f"a = {bowl}b = {bowl}def make():\n    return b\n")
    with pytest.raises(ValueError, match=r'several tasks, a, b; say which, as in "several\.py:a"'):
        find_task(several)
    assert find_task("several.py:a")[0] is not find_task("several.py:b")[0]
    assert find_task("several.py:make")[0] is find_task("several.py:b")[0]
    named = own("named.py", f"other = {bowl}def task():\n    return other\n")
    assert find_task(named) == (find_task("named.py:other")[0], "named.py")
    none = own("none.py", f"def make(width):\n    return {bowl}def wrong():\n    return 3\n")
    for name, words in {
        none: "has no l2ljax.Task; give one the name task",
        "none.py:make": "failed when called without arguments.*width",
        "none.py:wrong": "must be an l2ljax.Task or a function.*got 3",
        "none.py:gone": "has no attribute 'gone'",
        own("raising.py", "1 / 0\n"): "running the code of raising.py failed.*division by zero",
        own("syntax.py", "def\n"): "running the code of syntax.py failed",
    }.items():
        with pytest.raises((ValueError, TypeError), match=words):
            find_task(name)


@pytest.mark.parametrize(
    ("optimizer", "kind", "windows"),
    [
        (l2ljax.lstm((2,)), "TruncatedBPTT", 100),
        (l2ljax.celo2(), "EvolutionStrategy", 25),
        (
            l2ljax.hyperparameters(optax.sgd, {"learning_rate": l2ljax.log(0.1)}),
            "EvolutionStrategy",
            25,
        ),
    ],
)
def test_the_estimator_suits_the_optimizer(optimizer, kind, windows):
    """Whole episodes where coordinates are independent, evolution strategies elsewhere."""
    params = {"w": jax.ShapeDtypeStruct((2, 3), jnp.float32)}
    task = l2ljax.Task(init=lambda i, k: {"w": jnp.ones((2, 3))}, loss=lambda p, b: p["w"].sum())
    found = choose_estimator(None, task, optimizer, params, Sizes(100, 2, 3, 5))
    assert (type(found).__name__, found.unroll_length) == (kind, windows)
    stateful = l2ljax.Task(
        init=task.init,
        init_state=lambda i, k: jnp.zeros(()),
        loss=lambda p, b: (p["w"].sum(), b[1]),
    )
    found = choose_estimator(None, stateful, optimizer, params, Sizes(100, 2, 3, 5))
    assert (type(found).__name__, found.unroll_length) == ("TruncatedBPTT", 100)
    asked = {"name": "nres", "num_perturbations": 2, "sigma": 0.1, "unroll_length": 10}
    found = choose_estimator(asked, task, optimizer, params, Sizes(100, 2, 3, 5), "last")
    assert (found.unroll_length, found.weights[-2:]) == (10, (0.0, 1.0))
