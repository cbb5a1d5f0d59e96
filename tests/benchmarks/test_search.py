"""The search of `nominal`'s numbers: what they mean, and that minutes of it are worth something."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import search_numbers
import search_scores

from l2ljax.bundled import load_pretrained
from l2ljax.evaluation import evaluate
from l2ljax.experiments import board
from l2ljax.optimizers.nominal_directions import DECAYS
from l2ljax.optimizers.nominal_network import network, num_outputs
from l2ljax.optimizers.nominal_statistics import num_features, tensor_row
from l2ljax.tasks.suite import ENTRIES

TOLD = pytest.mark.parametrize("told", [True, False])


def test_only_training_tasks_are_searched_on():
    names = {search_scores.UNITS_OF, *search_scores.TASKS} - {"small-units"}
    assert {ENTRIES[name].split for name in names} == {"train"}


def test_statistics_are_the_columns_of_the_table():
    """Those with a closed form: after 500 of 1,000 steps, of a tensor whose elements are all 2."""
    tensor = jnp.full((5, 3), 2.0)
    whole, t = jnp.float32(0.25), jnp.float32(500)
    seen = jnp.zeros(len(DECAYS) + 2).at[1].set(0.3)
    now = jnp.zeros(len(DECAYS))
    halves = [jnp.full((5, 3), 0.5)] * (len(DECAYS) + 1)
    row = tensor_row(tensor, halves, seen, now, t, whole, 1000)
    expected = {
        "power of m 0.9": np.log(0.25) / 4,
        "agreement with m 0.9": 0.3 / (1 - 0.95**500),
        "rms of the tensor": np.log(2) / 3,
        "rms of all": np.log(0.5) / 3,
        "fan-in": np.log(5) / 4,
        "matrix": 1,
        "log t": np.log(500) / 8,
        "after 100": np.tanh(np.log(5)),
        "done": 0.5,
        "last fifth": np.tanh(10 * (0.5 - 0.8)),
        "log left": np.log(1.02 - 0.5) / 4,
    }
    for name, value in expected.items():
        found = row[search_numbers.STATISTICS[name].column]
        np.testing.assert_allclose(found, value, rtol=1e-3, atol=1e-6, err_msg=name)


@TOLD
def test_the_table_and_the_outputs_have_the_sizes_of_the_rule(told):
    assert search_numbers.NUM_COLUMNS[told] == num_features(len(DECAYS), told)
    assert len(search_numbers.OUTPUTS) == num_outputs(len(search_numbers.DIRECTIONS))
    weights = search_numbers.weights_at(np.zeros(len(search_numbers.numbers(told))), told)
    fresh = search_numbers.optimizer_for(told, 100).init(jax.random.key(0))
    assert jax.tree.map(jnp.shape, weights) == jax.tree.map(jnp.shape, fresh)


@TOLD
def test_a_coefficient_moves_nothing_where_its_statistic_is_usual(told):
    """So at the usual values the outputs are the biases' starts, plus one unit each in turn."""
    table = np.zeros((1, search_numbers.NUM_COLUMNS[told]), np.float32)
    for statistic in search_numbers.STATISTICS.values():
        if statistic.column < table.shape[1]:
            table[0, statistic.column] = statistic.usual
    numbers = search_numbers.numbers(told)
    start = np.zeros(len(search_numbers.OUTPUTS))
    for number in numbers:
        if number.statistic is None:
            start[search_numbers.OUTPUTS.index(number.output)] = number.start
    for k, number in enumerate(numbers):
        moved = np.eye(len(numbers))[k]
        expected = start.copy()
        if number.statistic is None:
            expected[search_numbers.OUTPUTS.index(number.output)] += number.unit
        said = network(search_numbers.weights_at(moved, told), jnp.asarray(table))
        np.testing.assert_allclose(said[0], expected, atol=1e-5)


def test_a_told_rule_begins_as_the_untold_one_with_steps_that_die_down():
    """Halfway through, all outputs are the untold ones but the size, by LEFT and what is left."""
    untold = np.random.default_rng(0).normal(size=len(search_numbers.numbers(False)))
    table = np.random.default_rng(1).normal(size=(1, search_numbers.NUM_COLUMNS[True]))
    left = np.log(1.02 - 0.5) / 4
    table[0, search_numbers.STATISTICS["log left"].column] = left
    before = network(search_numbers.weights_at(untold, False), jnp.asarray(table[:, :21]))
    weights = search_numbers.weights_at(search_numbers.told_from(untold), True)
    after = network(weights, jnp.asarray(table))
    dies = search_numbers.LEFT * (left - search_numbers.STATISTICS["log left"].usual)
    expected = np.asarray(before[0]) + dies * np.eye(len(before[0]))[0]
    np.testing.assert_allclose(after[0], expected, rtol=1e-4, atol=1e-5)


def test_a_rule_that_is_told_afterwards_takes_its_steps_so_many_times_as_long():
    """By the formula of the script, to which what a tanh takes off is added; at 57 % as before."""
    _, untold = load_pretrained("orthogonal-suite")
    weights = search_numbers.told(untold, 0.4)
    for done in (0.01, 0.57, 0.98):
        table = np.random.default_rng(1).normal(size=(1, search_numbers.NUM_COLUMNS[True]))
        left = np.log(1.02 - done) / 4
        table[0, search_numbers.STATISTICS["log left"].column] = left
        before = network(untold, jnp.asarray(table[:, :21]))[0]
        after = network(weights, jnp.asarray(table))[0]
        factor = ((1.02 - done) / np.exp(-0.8)) ** (7 / 4 * 0.4)
        np.testing.assert_allclose(np.exp(7 * (after[0] - before[0])), factor, rtol=1e-4)
        np.testing.assert_allclose(after[1:], before[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_shortened_search_is_useful_on_a_training_task():
    """Five generations on two tasks: below its start on other optimizees, Adam at 1e-3 above."""
    names, told = ("breast-cancer-linear", "valley-20"), False
    programs = {name: search_scores.program(name, told) for name in names}
    start = search_numbers.weights_at(np.zeros(len(search_numbers.numbers(told))), told)

    def ends(weights, purpose):
        alone = jax.tree.map(lambda leaf: leaf[None], weights)
        return {
            name: np.asarray(run(alone, search_scores.optimizees(name, told, purpose))[1][0])
            for name, run in programs.items()
        }

    search = search_scores.new_search(told, seed=0)
    reached = ends(start, board.REPORTED)
    for _ in range(5):
        search_scores.generation(search, told, programs, reached)
    found = search_numbers.weights_at(search.mean, told)
    before, after = ends(start, board.TUNING), ends(found, board.TUNING)
    assert np.mean([np.log(after[name] / before[name]).mean() for name in names]) < 0
    adam = evaluate(
        search_scores.build(names[0]),
        optax.adam(1e-3),
        jax.random.key(1),
        num_tasks=4,
        num_steps=1000,
    )
    assert after[names[0]].mean() < adam[:, -50:].mean()
