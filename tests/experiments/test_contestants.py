"""Who meets on the board: each lowers a loss, and others' weights are run as their authors say."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_board import CELL, ENTRY, PARABOLA
from zoo import ZOO, needs_zoo

from l2ljax.experiments import board
from l2ljax.experiments.contestants import HAND_MADE, published


@pytest.mark.parametrize("name", sorted(HAND_MADE))
def test_every_hand_made_contestant_lowers_a_parabola(name):
    contestant = HAND_MADE[name]
    rates = (contestant.rates[0],) if name == "optlist-best-of-10" else contestant.rates[6:9:2]
    one = dataclasses.replace(CELL, optimizer=name, num_steps=30)
    found = board.run_cell(one, PARABOLA, ENTRY, contestant, rates=rates)
    assert json.loads(json.dumps(found))["diverged"] == 0


@needs_zoo
def test_published_ones_can_be_run_one_after_another():
    """Weights are read once and serve every program: 3 steps on one parabola, then 4."""
    contestants = published(ZOO)
    assert {"celo", "celo2", "rnnprop-mean-1"} <= set(contestants)
    for num_steps in (3, 4):
        cell = board.Cell("parabola", "celo2", num_steps, num_tasks=2)
        found = board.run_cell(cell, PARABOLA, ENTRY, contestants["celo2"])
        assert np.isfinite(found["final_loss"]).all()


@needs_zoo
def test_weight_decay_shrinks_every_parameter_by_a_tenth_of_the_rate_a_step():
    """Celo2 with it, less Celo2 without it, is -0.1 * 0.01 * theta at the first step."""
    contestants, params = published(ZOO), {"w": jnp.full((4, 3), 2.0), "b": jnp.full(3, -1.0)}
    normal = jax.random.normal(jax.random.key(0), (4, 3))
    gradients = {"w": normal, "b": jnp.array([1.0, -2.0, 3.0])}
    steps = {}
    for name in ("celo2", "celo2-decay"):
        tx = contestants[name].make(None, 10)
        steps[name], _ = tx.update(gradients, tx.init(params), params)
    decay = jax.tree.map(jnp.subtract, steps["celo2-decay"], steps["celo2"])
    chex.assert_trees_all_close(decay, jax.tree.map(lambda p: -1e-3 * p, params), atol=1e-7)


def test_published_ones_that_are_not_there_take_no_part(tmp_path):
    assert published(tmp_path) == {}
