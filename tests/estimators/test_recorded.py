"""Recorded equals scan: whatever can be written as a learned optimizer, or it is refused."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import strategies as st
from recorded_cases import (
    LABELS,
    RULES,
    assert_same,
    chained,
    coordinatewise,
    meta_gradient,
    problem,
)

import l2ljax
from l2ljax import CoordinateGroup, LearnedOptimizer, Task, partition, wrap
from l2ljax.estimators import truncated_bptt

SHAPES = st.lists(
    st.sampled_from([(), (2,), (5,), (2, 3), (3, 0), (2, 1, 2)]), min_size=1, max_size=3
)


@st.composite
def optimizers(draw, depth=2):
    """A rule, or a partition of two by rank, size or path, of rules or partitions."""
    if depth == 0 or draw(st.booleans()):
        return RULES[draw(st.sampled_from(sorted(RULES)))]()
    members = {name: draw(optimizers(depth=depth - 1)) for name in "ab"}
    return partition(members, LABELS[draw(st.sampled_from(sorted(LABELS)))])


def check_any(optimizer, shapes, wide, poison, chunk):
    hypothesis.assume(any(np.prod(s) for s in shapes))
    # float64 beside float32 needs x64 mode; bfloat16 rounds the sums that the scan keeps in it
    task = problem(shapes, [jnp.float32] * len(shapes), poison)
    assert_same(task, optimizer, chunk_size=chunk if wide else None)


ANY = {
    "optimizer": optimizers(),
    "shapes": SHAPES,
    "wide": st.booleans(),
    "poison": st.booleans(),
    "chunk": st.integers(1, 5),
}
SETTINGS = functools.partial(
    hypothesis.settings,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@SETTINGS(max_examples=8)
@hypothesis.given(**ANY)
def test_recorded_equals_scan(optimizer, shapes, wide, poison, chunk):
    check_any(optimizer, shapes, wide, poison, chunk)


@pytest.mark.long
@SETTINGS(max_examples=200)
@hypothesis.given(**ANY)
def test_recorded_equals_scan_for_many(optimizer, shapes, wide, poison, chunk):
    check_any(optimizer, shapes, wide, poison, chunk)


def test_labels_by_rank_are_those_of_one_optimizee():
    """And both members get a gradient."""
    members = {"a": RULES["momentum"](), "b": RULES["rate"]()}
    _, gradient, _ = assert_same(
        problem([(2, 3), (3,)], [jnp.float32] * 2), partition(members, LABELS["rank"])
    )
    assert all(abs(float(g)) > 1e-3 for g in jax.tree.leaves(gradient))


def test_mixed_dtypes_agree_to_the_least_precise():
    """bfloat16 holds eight bits: the scan rounds the sums of gradients that it keeps to those."""
    task = problem([(5,), (2, 3)], [jnp.bfloat16, jnp.float32])
    assert_same(task, RULES["momentum"](), rtol=2e-2)


@pytest.mark.parametrize("rule", ["rms", "momentum"])
def test_a_state_in_the_gradients_own_narrow_dtype_is_kept(rule):
    """Where all of a group is bfloat16, so is what a rule of Optax's remembers: a scan's carry."""
    assert_same(problem([(5,)], [jnp.bfloat16]), RULES[rule](), rtol=5e-2)


def test_a_wrapped_optimizer_is_trained_with_its_wrapper():
    """`_replace` drops groups that know nothing of it; `wrap` keeps them where it may."""
    task, bare = problem([(4,)], [jnp.float32]), RULES["momentum"]()
    around = lambda tx: optax.chain(tx, optax.scale(5.0))  # noqa: E731
    replaced = bare._replace(transform=lambda phi: around(bare.transform(phi)))
    assert replaced.coordinate_groups is None
    kept = wrap(bare, around, coordinatewise=True)
    expected, *_ = meta_gradient(task, replaced, "auto")
    assert_same(task, kept)
    assert float(meta_gradient(task, kept, "recorded")[0]) == pytest.approx(float(expected), 1e-5)
    assert float(meta_gradient(task, bare, "auto")[0]) != pytest.approx(float(expected), 1e-2)


def test_a_rule_that_fails_at_zero_survives_a_diverged_task():
    """RMSprop without epsilon is 0/0 at gradient 0: nothing is made up for tasks left out."""
    rule = coordinatewise(
        lambda r: chained(optax.scale_by_rms(eps=0.0, initial_scale=0.0), optax.scale(-r)), 0.05
    )
    base = problem([(3,)], [jnp.float32])
    task = Task(
        init=base.init,
        sample=base.sample,
        loss=lambda p, batch: base.loss(p, batch) * jnp.where(batch[1], jnp.inf, 1.0),
    )
    _, gradient, diverged = assert_same(task, rule)
    assert 0 < (np.asarray(diverged) >= 0).sum() < 3
    assert np.isfinite(gradient)


def test_a_derivative_that_is_not_finite_leaves_out_its_task_alone():
    """sqrt(phi * 0) has a value and no derivative: only where the gradient is 0 to begin with."""

    def make(phi):
        def update(g, _):
            return jax.tree.map(lambda x: -0.1 * jnp.sqrt(phi * jnp.square(x)), g)

        return optax.with_extra_args_support(optax.stateless(update))

    rule = coordinatewise(make, 1.0)
    base = problem([(2,)], [jnp.float32])

    def loss(params, batch):
        flat = jnp.where(batch[1], 0.0, 1.0)  # some optimizees have no gradient at all
        return flat * base.loss(params, batch) + 1.0

    _, gradient, diverged = assert_same(Task(init=base.init, sample=base.sample, loss=loss), rule)
    assert 0 < (np.asarray(diverged) >= 0).sum() < 3
    assert np.isfinite(gradient)


def refused(make_tx, start=0.1, groups=None):
    optimizer = coordinatewise(make_tx, start)
    if groups is not None:
        optimizer = LearnedOptimizer(optimizer.init, optimizer.transform, groups)
    return optimizer


def noisy(rate):
    def init(params):
        return jax.random.key(0), jax.tree.map(jnp.zeros_like, params)

    def update(updates, state, params=None):
        key, rest = state
        noise = jax.tree.map(lambda g: jax.random.normal(key, g.shape), updates)
        return jax.tree.map(lambda g, n: -rate * (g + n), updates, noise), (key, rest)

    return optax.GradientTransformation(init, update)


def hidden_state(rate):
    def update(updates, state, params=None):
        state = state + 0.1
        return jax.tree.map(lambda g: -rate * g * state, updates), state

    return optax.GradientTransformation(lambda p: jnp.ones(jax.tree.leaves(p)[0].shape), update)


def reads_value(rate):
    def update(updates, state, params=None, *, value, **extra):
        return jax.tree.map(lambda g: -rate * value * g, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: (), update)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (refused(lambda r: optax.scale(-r), groups=lambda p: ()), "l0 is in 0 groups"),
        (
            refused(
                lambda r: optax.scale(-r),
                groups=lambda p: (CoordinateGroup((0,), lambda r: optax.scale(-r)),) * 2,
            ),
            "l0 is in 2 groups",
        ),
        (refused(noisy), "draws random numbers"),
        (refused(lambda r: optax.add_decayed_weights(r)), "given gradients alone"),
        (refused(reads_value), "given gradients alone"),
        (refused(hidden_state), "made by jax.tree.map"),
    ],
    ids=["uncovered", "twice", "random", "params", "value", "hidden"],
)
def test_what_cannot_be_recorded_is_refused_in_a_sentence(optimizer, words):
    task = problem([(3,)], [jnp.float32])
    with pytest.raises(ValueError, match=words) as error:
        truncated_bptt(
            task, optimizer, num_tasks=1, episode_length=2, unroll_length=2, backward="recorded"
        )
    assert "\n" not in str(error.value)


def test_a_group_without_leaves_changes_nothing():
    """As a member has whose label no parameter bears: the rest is recorded as if it were alone."""
    rule = RULES["rms"]()
    assert rule.coordinate_groups is not None

    def groups(params):
        return (CoordinateGroup((), rule.transform), *rule.coordinate_groups(params))

    task = problem([(3,), (2, 2)], [jnp.float32] * 2)
    with_empty = LearnedOptimizer(rule.init, rule.transform, groups)
    expected, gradient, _ = assert_same(task, with_empty)
    alone = meta_gradient(task, rule, "recorded")
    np.testing.assert_allclose([expected, gradient], alone[:2], rtol=1e-5)


def test_auto_takes_the_scan_where_a_rule_cannot_be_recorded():
    estimator = truncated_bptt(
        problem([(3,)], [jnp.float32]),
        refused(noisy),
        num_tasks=1,
        episode_length=2,
        unroll_length=2,
    )
    assert estimator.backward == "scan"


@pytest.mark.parametrize("name", sorted(RULES))
def test_the_public_check_passes_what_is_right(name):
    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(1)}
    l2ljax.check_learned_optimizer(RULES[name](), params)


def test_the_public_check_finds_coordinates_that_are_not_alone():
    def make(rate):
        def update(g, _):
            return jax.tree.map(lambda x: -rate * x / jnp.sqrt(1 + jnp.mean(x**2)), g)

        return optax.with_extra_args_support(optax.stateless(update))

    with pytest.raises(ValueError, match=r"chunks of three|recorded backward pass"):
        l2ljax.check_learned_optimizer(
            coordinatewise(make, 0.3), {"w": jnp.ones((2, 2)), "b": jnp.zeros(3)}
        )
