"""The search of `nominal`'s numbers: what they mean, and what is searched on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import search_axes
import search_numbers
import search_scores
import search_sets
import search_trial
import search_trials

from l2ljax.bundled import load_pretrained
from l2ljax.optimizers.nominal_directions import DECAYS
from l2ljax.optimizers.nominal_network import network, num_outputs
from l2ljax.optimizers.nominal_statistics import num_features, tensor_row
from l2ljax.tasks.suite import ENTRIES


def test_only_training_tasks_are_searched_on():
    trials = [trial for some in search_sets.SETS.values() for trial in some.values()]
    assert {ENTRIES[trial.task].split for trial in trials} == {"train"}


def test_a_trial_has_its_noise_and_adam_has_it_too(tmp_path):
    """A pair estimates a quadratic's gradient g as e (e . g): within 90 degrees of g, off it."""
    trial = search_trial.Trial("quadratic", 20, 2, 0.0, "es")
    task = search_scores.built(trial)
    instance_key, params_key, batch_key = jax.random.split(jax.random.key(0), 3)
    instance = task.sample(task.data, instance_key)
    params = task.init(instance, params_key)
    batch = task.batch(task.data, instance, batch_key)
    gradient = jax.grad(task.loss)(params, batch)
    plain = ENTRIES["quadratic"].build()
    exact = jax.grad(plain.loss)(params, plain.batch(plain.data, instance, batch_key))
    cosine = jnp.vdot(gradient, exact) / jnp.linalg.norm(gradient) / jnp.linalg.norm(exact)
    assert 0 < cosine < 0.9
    with_noise = search_scores.reached_by_adam(trial, tmp_path)
    without = search_scores.reached_by_adam(trial._replace(noise=None), tmp_path)
    assert with_noise.shape == without.shape == (2,)
    assert (with_noise > without).all()


def test_shortened_trials_are_no_longer_than_asked_and_none_is_there_twice():
    """A tenth of the steps is a tenth of the time; short ones stay, noise and units tell apart."""
    short = search_trials.shortened(search_trials.WIDE, 100)
    assert {trial.num_steps for trial in short.values()} == {100}
    kinds = [(trial.task, trial.noise, trial.units) for trial in short.values()]
    assert len(set(kinds)) == len(kinds)
    assert set(kinds) == {(t.task, t.noise, t.units) for t in search_trials.WIDE.values()}
    name = "mnist8-relu-32, labels"
    assert short[name].seconds == pytest.approx(search_trials.WIDE[name].seconds / 10)


def test_sets_of_trials_are_what_they_say_of_each_other():
    """Half the optimizees or all, of the same runs; more weight, and two more whole runs."""
    halved = dict(search_trials.HALVED)
    assert halved.pop("cifar8-tanh-128, es").weight == 10
    assert halved.keys() == search_trials.FIRST.keys()
    for name, trial in search_trials.FIRST.items():
        half = halved[name]
        assert half.num_tasks in (trial.num_tasks, (trial.num_tasks + 1) // 2)
        assert half._replace(num_tasks=0, seconds=0.0) == trial._replace(num_tasks=0, seconds=0.0)
    more = search_trials.OPENING.keys() - search_trials.EARLY.keys()
    assert more == {"digits-autoencoder, whole", "bytes-transformer-16, whole"}
    lengths = search_trials.LENGTHS
    assert len(lengths) == len(set(lengths.values()))
    assert lengths.items() <= search_trials.ALL.items()
    heavy = {t.task for t in search_trials.OPENING.values() if t.weight == search_trials.PICTURE}
    assert heavy == {"inversion-32"}
    growing = ("lasting", "steady"), ("steady", "deep"), ("enduring", "broad"), ("broad", "noisy")
    for fewer, more in (*growing, ("beginning", "painting")):
        assert search_sets.SETS[fewer].items() < search_sets.SETS[more].items()
    enduring = [t for t in search_trials.ENDURING.values() if t.task == "oscillator-32"]
    assert max(trial.num_steps for trial in enduring) == 10_000
    horizons, broad = search_trials.HORIZONS, search_trials.BROAD
    assert {trial.task for trial in horizons.values()} == {trial.task for trial in broad.values()}
    assert sum(t.num_tasks for t in horizons.values() if t.task == "oscillator-32") == 2
    assert horizons.keys() < search_trials.FAR_HORIZONS.keys()
    assert search_axes.HEADS.keys() == search_axes.THICK.keys()
    for trial in search_axes.THICK.values():  # each has tensors of more than two axes
        task = ENTRIES[trial.task].build()
        like = jax.eval_shape(lambda k, t=task: t.init(t.sample(t.data, k), k), jax.random.key(0))
        assert max(leaf.ndim for leaf in jax.tree.leaves(like)) > 2


def test_statistics_are_the_columns_of_the_table():
    """Those with a closed form: after 500 steps, of a tensor whose elements are all 2."""
    tensor = jnp.full((5, 3), 2.0)
    whole, t = jnp.float32(0.25), jnp.float32(500)
    seen = jnp.zeros(len(DECAYS) + 4).at[1].set(0.3).at[-2:].set(jnp.log(jnp.array([0.1, 0.3])) / 3)
    now = jnp.zeros(len(DECAYS))
    halves = [jnp.full((5, 3), 0.5)] * (len(DECAYS) + 1)
    row = tensor_row(tensor, halves, seen, now, t, t, whole, None)
    expected = {
        "power of m 0.9": np.log(0.25) / 4,
        "agreement with m 0.9": 0.3 / (1 - 0.95**500),
        "start of the tensor": np.log(0.1) / 3,
        "start of all": np.log(0.3) / 3,
        "growth of the tensor": np.log(2 / 0.1) / 3,
        "growth of all": np.log(0.5 / 0.3) / 3,
        "fan-in": np.log(5) / 4,
        "matrix": 1,
        "log t": np.log(500) / 8,
        "after 100": np.tanh(np.log(5)),
    }
    for name, value in expected.items():
        columns = search_numbers.STATISTICS[name].columns
        found = sum(factor * row[column] for column, factor in columns.items())
        np.testing.assert_allclose(found, value, rtol=1e-3, atol=1e-6, err_msg=name)


def test_the_table_and_the_outputs_have_the_sizes_of_the_rule():
    num_others = len(search_numbers.DIRECTIONS)
    assert num_features(len(DECAYS), False, True) == search_numbers.NUM_COLUMNS
    assert len(search_numbers.OUTPUTS) == num_outputs(num_others, True)
    weights = search_numbers.weights_at(np.zeros(len(search_numbers.NUMBERS)))
    for weights_, rule in (
        (weights, search_numbers.rule()),
        (search_numbers.told(weights, {"size": 0.4}), search_numbers.rule(100)),
    ):
        fresh = rule.init(jax.random.key(0))
        assert jax.tree.map(jnp.shape, weights_) == jax.tree.map(jnp.shape, fresh)


def test_a_rule_rests_after_4000_steps_or_told_never_unless_it_is_said():
    """Trials of a told rule are run as its weights are saved."""
    rests = {(): 4000, (100,): None, (None, 2000): 2000, (100, 1000): 1000}
    for given, rest_after in rests.items():
        assert search_numbers.rule(*given).specification["rest_after"] == rest_after


def test_a_coefficient_moves_nothing_where_its_statistic_is_usual():
    """And a bias moves its own output by its unit."""
    numbers, names = search_numbers.NUMBERS, search_numbers.OUTPUTS
    for k, number in enumerate(numbers):
        table = np.zeros((1, search_numbers.NUM_COLUMNS), np.float32)
        if number.statistic is not None:
            statistic = search_numbers.STATISTICS[number.statistic]
            # the growth is what is beyond the start, which is left at 0
            table[0, next(iter(statistic.columns))] = statistic.usual
        zero = search_numbers.weights_at(np.zeros(len(numbers)))
        moved = search_numbers.weights_at(np.eye(len(numbers))[k])
        change = network(moved, jnp.asarray(table)) - network(zero, jnp.asarray(table))
        expected = np.zeros(len(names))
        if number.statistic is None:
            expected[names.index(number.output)] = number.unit
        np.testing.assert_allclose(change[0], expected, atol=1e-5)


def test_weights_say_which_numbers_they_are_of():
    """Also those that share a column, as growth and start do, and where the horizon is told."""
    untold = len(search_numbers.NUMBERS)
    for size in (untold, untold + len(search_numbers.TOLD)):
        x = np.random.default_rng(0).normal(size=size)
        found = search_numbers.numbers_at(search_numbers.weights_at(x))
        np.testing.assert_allclose(found, x, atol=1e-4)


def test_a_rule_that_is_told_afterwards_takes_its_steps_so_many_times_as_long():
    """By the formula of the script, to which what a tanh takes off is added; at 57 % as before."""
    _, untold = load_pretrained("averaged-suite")
    weights = search_numbers.told(untold, {"size": 0.4})
    for done in (0.01, 0.57, 0.98):
        table = np.random.default_rng(1).normal(size=(1, search_numbers.NUM_COLUMNS))
        horizon = [0.3, 0.7, np.log(1.02 - done) / 4]
        with_horizon = np.insert(table, [search_numbers.NUM_COLUMNS - 2] * 3, horizon, axis=1)
        before = network(untold, jnp.asarray(table))[0]
        after = network(weights, jnp.asarray(with_horizon))[0]
        factor = ((1.02 - done) / np.exp(-0.8)) ** (7 / 4 * 0.4)
        np.testing.assert_allclose(np.exp(7 * (after[0] - before[0])), factor, rtol=1e-4)
        np.testing.assert_allclose(after[1:], before[1:], rtol=1e-4, atol=1e-5)


def test_numbers_of_the_beginning_fade_as_one_over_one_plus_the_square_of_the_time():
    """Each of them its own output alone, by the table that the rule has after so many steps."""
    _, bundled = load_pretrained("averaged-suite")
    numbers, names = search_numbers.EARLY, search_numbers.OUTPUTS
    tensor, zeros = jnp.ones((5, 3)), jnp.zeros(len(DECAYS))
    for k, number in enumerate(numbers):
        weights = search_numbers.with_early(bundled, np.eye(len(numbers))[k])
        for steps in (1, 30, 1000):
            t, halves = jnp.float32(steps), [jnp.full((5, 3), 0.5)] * (len(DECAYS) + 1)
            seen = jnp.zeros(len(DECAYS) + 4)
            row = tensor_row(tensor, halves, seen, zeros, t, t, jnp.float32(1), None)[None]
            around = 10 if number.statistic == "before 10" else 100
            expected = np.zeros(len(names))
            expected[names.index(number.output)] = number.unit / (1 + (steps / around) ** 2)
            change = network(weights, row) - network(bundled, row)
            np.testing.assert_allclose(change[0], expected, atol=2e-5, err_msg=str(number))


@pytest.mark.parametrize("name", ["enduring-suite", "opening-suite-steps"])
def test_numbers_of_more_than_two_axes_leave_all_other_tensors_as_they_were(name):
    """To the bit; and kernels of three and four axes get each number in its own output, told or
    not, by the table that the rule has of them."""
    _, bundled = load_pretrained(name)
    numbers, names = search_numbers.AXES, search_numbers.OUTPUTS
    assert len({number.output for number in numbers}) == len(numbers) == 8
    num_steps = 100 if search_numbers.is_told(bundled) else None
    seen, now, t = jnp.full(len(DECAYS) + 4, 0.1), jnp.full(len(DECAYS), 0.1), jnp.float32(7)
    for shape in ((5,), (5, 3), (5, 3, 2), (3, 3, 2, 2)):
        halves = [jnp.full(shape, 0.5)] * (len(DECAYS) + 1)
        row = tensor_row(jnp.ones(shape), halves, seen, now, t, t, jnp.float32(1), num_steps)[None]
        for k, number in enumerate(numbers):
            weights = search_numbers.with_axes(bundled, np.eye(len(numbers))[k])
            expected = np.zeros(len(names))
            expected[names.index(number.output)] = number.unit * (len(shape) > 2)
            change = np.asarray(network(weights, row) - network(bundled, row))[0]
            np.testing.assert_allclose(change, expected, atol=1e-5)
            assert len(shape) > 2 or not change.any()


def test_numbers_of_pictures_leave_all_tensors_of_networks_as_they_were():
    """To the bit: in place of how many numbers there are, which the rule does not read."""
    _, bundled = load_pretrained("desk-suite")
    assert not np.any(bundled["layers"][0]["kernel"][search_numbers.ALONE_COLUMN])
    seen, now, t = jnp.full(len(DECAYS) + 4, 0.1), jnp.full(len(DECAYS), 0.1), jnp.float32(7)
    moved = np.linspace(-1, 1, 8)
    weights = search_numbers.with_axes(bundled, moved, search_numbers.ALONE_COLUMN)
    for shape, beside in (((5, 3), 15), ((5, 3, 2), 40), ((5, 3, 2), 31)):
        halves = [jnp.full(shape, 0.5)] * (len(DECAYS) + 1)
        row = tensor_row(jnp.ones(shape), halves, seen, now, t, t, jnp.float32(1), None, beside)[
            None
        ]
        change = np.asarray(network(weights, row) - network(bundled, row))[0]
        expected = np.zeros(len(search_numbers.OUTPUTS))
        if beside == 31:
            for number, by in zip(search_numbers.AXES, moved, strict=True):
                expected[search_numbers.OUTPUTS.index(number.output)] = number.unit * by
        np.testing.assert_allclose(change, expected, atol=1e-5)
        assert beside == 31 or not change.any()


@pytest.mark.parametrize("num_told", [0, len(search_numbers.TOLD)])
def test_all_numbers_at_once_are_the_rule_s_own_and_those_of_the_beginning(num_told):
    """On from a rule that was found: its own numbers by so much more, and what fades."""
    own, early = len(search_numbers.NUMBERS) + num_told, len(search_numbers.EARLY)
    x = np.random.default_rng(2).normal(size=2 * own + early)
    found, by, fading = np.split(x, [own, 2 * own])
    weights = search_numbers.weights_at(found)
    assert search_numbers.is_told(weights) == bool(num_told)
    compare = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-4)
    jax.tree.map(compare, search_numbers.moved(weights, np.zeros(own + early)), weights)
    expected = search_numbers.with_early(search_numbers.weights_at(found + by), fading)
    jax.tree.map(compare, search_numbers.moved(weights, np.concatenate([by, fading])), expected)


def test_what_counts_of_a_ratio_is_itself_until_it_is_large():
    """By hand: 0.8 and 1 as they are, e ** 2 and a tenth in part, others at the bounds."""
    logs = np.log([0.8, 1e-9, 1.0, np.exp(2.0), np.inf])
    expected = [np.log(0.8), -1.2, 0.0, 1 + 0.4, 2.5]
    np.testing.assert_allclose(search_scores.counted(logs), expected, rtol=1e-6)
    np.testing.assert_allclose(
        search_scores.counted(np.log(0.1)), -0.5 + 0.25 * (np.log(0.1) + 0.5)
    )


def test_numbers_of_some_outputs_are_moved_alone():
    """Columns of the others stay to the bit; a name that is none is told those there are."""
    start = load_pretrained("enduring-suite")[1]
    x = np.linspace(-1, 1, len(search_numbers.indices(["size", "drift"])))
    there = search_numbers.moved(start, search_numbers.placed(x, ["size", "drift"], told=False))
    (before,), (after,) = start["layers"], there["layers"]
    same = [bool((before["kernel"][:, i] == after["kernel"][:, i]).all()) for i in range(10)]
    assert same == [name not in ("size", "drift") for name in search_numbers.OUTPUTS]
    by = search_numbers.numbers_at(there) - search_numbers.numbers_at(start)
    np.testing.assert_allclose(by[: len(x)], x, atol=1e-4)
    np.testing.assert_allclose(by[len(x) :], 0, atol=1e-4)
    with pytest.raises(ValueError, match=r"no numbers of \['sizes'\], but of \['size', 'drift', "):
        search_numbers.indices(["sizes"])
