"""The benchmarks measure what they say: equal work, a bound from counted operations, medians."""

import again
import bound
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import use
from hidden_last import lstm_hidden_last
from table import markdown, summarise
from works import WORKS, Work

from l2ljax.optimizers import lstm


def test_the_baseline_computes_the_same_updates():
    """Hidden axis last is another layout of the same network."""
    meta_params = lstm().init(jax.random.key(0))
    gradients = [
        {"w": jnp.asarray(np.random.default_rng(i).normal(size=(3, 4))), "b": jnp.ones(4)}
        for i in range(3)
    ]
    ours, theirs = (o.transform(meta_params) for o in (lstm(), lstm_hidden_last()))
    states = [tx.init(gradients[0]) for tx in (ours, theirs)]
    for gradient in gradients:
        update, states[0] = jax.jit(ours.update)(gradient, states[0])
        other, states[1] = jax.jit(theirs.update)(gradient, states[1])
        chex.assert_trees_all_close(update, other, rtol=1e-4)


def test_the_bound_counts_operations():
    """Two layers of 20 on 2 features: 80 x (2 + 20 + 1) and 80 x (20 + 20 + 1), and 21 more."""
    assert bound.flops(2) == 2 * (80 * 23 + 80 * 41 + 21)
    work = Work(make=None, coordinates=1000, inner_steps=10, share=1.0)
    each = 4 * bound.flops(2) / 1e9 + 2 * 200 / 1e8  # 4 products, 2 rounds of 2 x 5 x 20
    assert bound.least_seconds(work, (1e9, 1e8)) == pytest.approx(10_000 * each)


def test_rows_are_medians_over_rounds():
    """And speeds are relative to the fastest other implementation."""
    records = {
        "l2ljax, a": [{"seconds_per_update": s, "temporary_mib": 5.0} for s in (3.0, 1.0, 2.0)],
        "slow": [{"seconds_per_update": 8.0}],
        "fast": [{"seconds_per_update": s} for s in (4.0, 6.0)],
    }
    ours, slow, fast = summarise(records)
    assert (ours["seconds"], ours["least"], ours["most"]) == (2.0, 1.0, 3.0)
    assert [row["times_fastest_peer"] for row in (ours, slow, fast)] == [2.5, 0.625, 1.0]
    assert fast["temporary_mib"] is None
    assert "| l2ljax, a | 2000.0 | 1000.0 | 3000.0 | 2.50 | 5.0 |" in markdown([ours, slow])


def test_a_small_work_runs():
    """128 quadratics: a compiled step that moves the state on."""
    work = WORKS["quadratics"]["recorded"]()
    assert (work.coordinates, work.inner_steps, work.features) == (1280, 20, 1)
    step, state, report = work.make()
    assert int(step(state).update) == 1
    assert report["temporary_mib"] > 0


@pytest.mark.parametrize("shape", use.SHAPES)
def test_works_of_use_have_the_size_that_they_say(shape):
    params = jax.eval_shape(lambda: use.make_params(shape))
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert size == pytest.approx(1e6 if shape.startswith("1M") else 1e7, rel=0.02)


def test_every_optimizer_in_use_makes_a_step(monkeypatch):
    """On parameters too small to cost anything; the updates arrive in the parameters."""
    monkeypatch.setattr(use, "make_params", lambda shape: {"kernel": jnp.full((4, 6), 0.1)})
    for name in use.names():
        step, state = use.make_step(name, "tiny")
        params, _ = jax.jit(step)(state)
        assert np.isfinite(params["kernel"]).all(), name
        assert np.any(params["kernel"] != 0.1), name


def test_a_second_evaluation_is_measured_beside_the_first(monkeypatch):
    """It compiles nothing, and the first did; the table has their ratio."""
    monkeypatch.setattr(bound, "measure_rates", lambda: (1e11, 1e9))
    again_of = again.measured("128 quadratics", steps=2, rounds=2, data_dir=None)
    assert (again_of["first_compilations"], again_of["compilations"]) == (1, 0)
    assert len(again_of["later_s"]) == len(again_of["program_s"]) == 2
    assert again_of["bound_s"] > 0
    times = {"work": "w", "first_s": 3.0, "later_s": [0.5, 0.1, 0.2], "compilations": 0}
    row = again.table([times | {"program_s": [0.2], "bound_s": 0.05}]).splitlines()[-1]
    assert row == "| w | 3.00 | 0.200 (0.100 to 0.500) | 15.0 | 0.200 | 25% | 0 |"
