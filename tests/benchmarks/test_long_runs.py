"""The soak and stability benchmarks count and fit what they say."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from growth import blocks, growth, watch
from long_runs import advance, largest_update, with_faults
from outcomes import markdown, save, saved, summarise

from l2ljax.base import LearnedOptimizer, Task
from l2ljax.tasks import quadratic
from l2ljax.unrolling import init_optimizee

PARABOLA = Task(init=lambda _, key: jnp.ones(2), loss=lambda x, _: jnp.sum(x**2))


def rate_optimizer():
    """SGD with a given rate: theta shrinks by 1 - 2 rate a step."""
    return LearnedOptimizer(
        init=lambda key: jnp.float32(0.1),
        transform=lambda rate: optax.with_extra_args_support(optax.sgd(rate)),
    )


def test_growth_is_the_lines_rise():
    """An exact line: its slope, no spread; and noise around a constant: an interval around 0."""
    update = np.arange(0.0, 2000.0, 100.0)
    fit = growth(update, 100 + 0.01 * update)
    assert fit["slope"] == pytest.approx(10, rel=1e-6)
    assert fit["slope_ci95"] == pytest.approx([10, 10], rel=1e-4)
    assert fit["growth"] == pytest.approx(0.01 * 1900 / 109.5, rel=1e-2)
    noise = np.random.default_rng(0).normal(size=20)
    fit = growth(update, 100 + noise)
    assert fit["slope_ci95"][0] < 0 < fit["slope_ci95"][1]
    # an independent form of the interval: Pearson's correlation and its t statistic
    r = scipy.stats.pearsonr(update, noise).statistic
    slope = r * noise.std() / update.std()
    error = abs(slope / r) * np.sqrt((1 - r**2) / 18)
    width = 2 * scipy.stats.t.ppf(0.975, 18) * error * 1e3
    low, high = fit["slope_ci95"]
    assert high - low == pytest.approx(width, rel=1e-2)


def test_growth_covers_as_often_as_it_says():
    """Of 400 noisy constants, 95 % of the intervals hold 0 (binomial, four deviations)."""
    update, draw = np.arange(20.0), np.random.default_rng(1)
    fits = [growth(update, 50 + draw.normal(size=20)) for _ in range(400)]
    held = sum(low <= 0 <= high for low, high in (fit["slope_ci95"] for fit in fits))
    assert abs(held - 380) < 4 * np.sqrt(400 * 0.95 * 0.05)


def test_blocks_are_means_of_stretches():
    """2 ms of processor and 5 ms of wall time an update, memory that is its update's number."""
    samples = [
        {"update": n, "seconds": 9 + 5e-3 * n, "cpu_seconds": 2e-3 * n, "memory_mib": float(n)}
        for n in range(10, 1010, 10)
    ]
    means = blocks(samples, first=200, num_blocks=4)
    np.testing.assert_allclose(means["update"], [300, 500, 700, 900])
    np.testing.assert_allclose(means["cpu_ms"], 2)
    np.testing.assert_allclose(means["wall_ms"], 5)
    np.testing.assert_allclose(means["memory_mib"], [305, 505, 705, 905])


def test_a_process_is_watched_by_its_history(tmp_path):
    """A script that writes a line at a time: every update seen is one it wrote, in order."""
    history = tmp_path / "metrics.jsonl"
    code = f"""
import json, time
for update in range(1, 6):
    with open({str(history)!r}, "a") as file:
        file.write(json.dumps({{"update": update}}) + "\\n")
    time.sleep(0.2)
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    samples = list(watch(process, history))
    updates = [sample["update"] for sample in samples]
    assert updates == sorted(set(updates))
    assert set(updates) <= {1, 2, 3, 4, 5}
    assert len(updates) >= 2
    assert all(sample["memory_mib"] > 1 for sample in samples)


def test_runs_advance_in_pieces():
    """Two pieces of 3 steps of SGD are 6: theta = (1 - 2 rate)^6, losses 2 theta^2."""
    optimizer, rate = rate_optimizer(), jnp.float32(0.1)
    states = jax.vmap(lambda k: init_optimizee(PARABOLA, optimizer.transform(rate), k))(
        jax.random.split(jax.random.key(0), 5)
    )
    losses = []
    for _ in range(2):
        states, found = advance(PARABOLA, optimizer, rate, states, 3, 2, jax.random.key(1))
        losses.append(found[:, :-1])
    np.testing.assert_allclose(states.params, np.full((5, 2), 0.8**6), rtol=1e-5)
    expected = np.tile(2 * 0.8 ** (2 * np.arange(6)), (5, 1))
    np.testing.assert_allclose(np.concatenate(losses, axis=1), expected, rtol=1e-5)


def test_the_largest_update_is_found():
    """Of SGD from theta = 1 it is the first: 2 rate."""
    found = largest_update(PARABOLA, rate_optimizer(), jnp.float32(0.1), num_tasks=2, num_steps=4)
    assert found == pytest.approx(0.2, rel=1e-6)


def test_counts_and_quantiles_of_runs():
    """Four runs: to 0, to 3 (above its start), one minibatch at fault, and one that is lost."""
    losses = np.ones((4, 200))
    losses[0, -2:], losses[1, -2:] = 0.0, 3.0
    losses[2, -1] = np.nan
    losses[3, 100:] = np.inf
    finite = np.ones((4, 10), bool)
    finite[3, :7] = False
    found = summarise(losses, finite)
    assert found["nonfinite_parameters"] == 7
    assert found["runs_with_nonfinite_parameters"] == 1
    assert found["nonfinite_losses"] == 101
    assert found["runs_that_end_above_their_start"] == 2
    expected = {"0": 0.0, "0.05": 0.0, "0.5": 1.0, "0.95": None, "1": None}
    assert found["final_loss_quantiles"] == expected
    row = {"optimizer": "a", "task": "b", "settings": "default", **found}
    assert "| a | b | default | 7 of 40 | 2 of 4 | 1 | 0 | 0 | 1 | not finite | not finite |" in (
        markdown([row])
    )


def test_a_case_is_saved_once(tmp_path):
    """Measured again, its row is replaced; others stay."""
    losses, finite = np.ones((2, 10)), np.ones((2, 3), bool)
    for task in ("a", "b", "a"):
        row = {"optimizer": "o", "task": task, "settings": "default"}
        save(row | summarise(losses, finite), tmp_path)
    assert [row["task"] for row in saved(tmp_path)] == ["a", "b"]
    assert json.loads((tmp_path / "stability.json").read_text())["hardware"]


def test_faulty_minibatches_are_as_rare_as_said():
    """0.1 % of them are NaN, within four deviations of the binomial; the others are as drawn."""
    task = with_faults(quadratic(3), 1e-3)
    instance = task.sample((), jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 20_000)
    batches = jax.vmap(lambda key: task.batch((), instance, key))(keys)
    leaf = np.asarray(jax.tree.leaves(batches)[0]).reshape(20_000, -1)
    faults = np.isnan(leaf).all(axis=1)
    assert abs(faults.sum() - 20) < 4 * np.sqrt(20)
    original = np.asarray(jax.tree.leaves(instance)[0]).reshape(-1)
    np.testing.assert_array_equal(leaf[~faults], np.tile(original, ((~faults).sum(), 1)))
