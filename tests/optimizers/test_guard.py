"""`guard`: what it does at a fault, what it costs a good optimizer, and where it can stand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optimizer_cases import assert_close, draw, stack

import l2ljax

RATE = 0.1


def turning(what, base):
    """`base`, whose update at step t becomes `what(update, t)`."""

    def init(params):
        return jnp.zeros([], jnp.int32), base.init(params)

    def update(updates, state, params=None, **extra_args):
        del extra_args
        count, inner = state
        updates, inner = base.update(updates, inner, params)
        return jax.tree.map(lambda u: what(u, count), updates), (count + 1, inner)

    return optax.GradientTransformationExtraArgs(init, update)


FAULTS = {
    "x100": lambda u, t: jnp.where(t >= 50, 100 * u, u),
    "nan": lambda u, t: jnp.where(t >= 70, jnp.nan * u, u),
    "infinite": lambda u, t: jnp.where(t >= 70, jnp.inf * u, u),
    "slow ascent": lambda u, t: jnp.where(t >= 50, -0.3 * u, u),
    "explosion within the bound": lambda u, t: jnp.where(t >= 50, -9 * u, u),
}


def final_losses(task, tx, num_steps, num_tasks=8):
    """Means over the last 5 % of steps, and the counts of one run."""
    losses = l2ljax.evaluate(task, tx, jax.random.key(5), num_tasks=num_tasks, num_steps=num_steps)
    return float(losses[:, -num_steps // 20 :].mean())


@pytest.mark.parametrize("fault", FAULTS)
def test_an_optimizer_that_turns_bad_ends_as_the_fallback_alone_on_quadratics(fault):
    """Within 10 % of it after 300 steps."""
    task, fallback = l2ljax.tasks.quadratic(), optax.adam(RATE)
    tx = l2ljax.guard(turning(FAULTS[fault], optax.adam(RATE)), fallback)
    assert final_losses(task, tx, 300) < 1.1 * final_losses(task, fallback, 300)


@pytest.mark.long
@pytest.mark.parametrize("num_steps", [300, 500, 1000])
@pytest.mark.parametrize("fault", FAULTS)
def test_an_optimizer_that_turns_bad_ends_as_the_fallback_alone_on_digits(fault, num_steps):
    """Within 10 % of it, mean of 8 optimizees: what is lost is the time until a rise is seen."""
    digits = l2ljax.load_dataset("digits", "train")
    task = l2ljax.tasks.mlp(digits, (16,), activation="relu", batch_size=64)
    fallback = optax.adam(3e-3)
    tx = l2ljax.guard(turning(FAULTS[fault], optax.adam(3e-3)), fallback)
    guarded, alone = (final_losses(task, each, num_steps) for each in (tx, fallback))
    print(f"{fault}, {num_steps} steps: {guarded / alone:.3f} of the fallback's loss")
    assert guarded < 1.1 * alone


def test_a_good_optimizer_is_left_alone():
    """Its last loss is its own to 2 %; of an oscillating descent few steps are the fallback's."""
    task, good = l2ljax.tasks.quadratic(), optax.adam(RATE)
    tx = l2ljax.guard(good, optax.adam(RATE / 2))
    assert final_losses(task, tx, 400) < 1.02 * final_losses(task, good, 400)
    state = l2ljax.init_optimizee(task, tx, jax.random.key(0))
    state, _ = jax.jit(lambda s: l2ljax.unroll(task, tx, s, jax.random.key(1), 400))(state)
    assert int(state.opt_state.counts.loss) == 0
    assert int(state.opt_state.counts.fallback) <= 4


def test_steady_noise_rarely_raises_an_alarm():
    """Independent normal losses, 32 runs of 1,000: at most one run in eight has a false alarm."""
    tx = l2ljax.guard(optax.sgd(0.1), optax.sgd(0.1))
    losses = jnp.asarray(np.random.default_rng(0).normal(size=(32, 1000)), jnp.float32)

    def alarms(losses):
        def step(state, loss):
            return tx.update(jnp.ones(1), state, jnp.ones(1), value=loss)[1], None

        return jax.lax.scan(step, tx.init(jnp.ones(1)), losses)[0].counts.loss

    assert int((jax.jit(jax.vmap(alarms))(losses) > 0).sum()) <= 4


def follow(tx, losses, gradient=None, params=None):
    """Updates and last state over losses, at parameters that do not move."""
    params = jnp.array([2.0]) if params is None else params
    gradient = jnp.ones(1) if gradient is None else gradient
    state, updates = tx.init(params), []
    for loss in losses:
        update, state = tx.update(gradient, state, params, value=loss)
        updates.append(float(update[0]))
    return updates, state


def test_counts_tell_why():
    """Too long from step 1 on, not finite from 3 on; the fallback's update each time."""
    learned = turning(
        lambda u, t: jnp.select([t >= 3, t >= 1], [jnp.nan * u, 100 * u], u), optax.sgd(1.0)
    )
    updates, state = follow(l2ljax.guard(learned, optax.sgd(0.5)), [1.0] * 5)
    assert updates == [-1.0, -0.5, -0.5, -0.5, -0.5]
    counts = l2ljax.optimizers._guard.GuardCounts(2, 2, 0, 0, 4, 0)
    assert jax.tree.map(int, state.counts) == counts
    assert int(state.count) == 5


def test_the_loss_test_is_the_documented_one():
    """A, D and B by NumPy: the first failure is where A > B + 3 D."""
    losses = [5 - 0.1 * t for t in range(15)] + [3.6 + 0.05 * t for t in range(40)]
    average = noise = 0.0
    best, first = np.inf, None
    for t, loss in enumerate(losses):
        rise = 3 * noise / (1 - 0.9 ** max(t - 1, 1)) if t > 1 else 0
        average = 0.9 * average + 0.1 * loss
        now = average / (1 - 0.9 ** (t + 1))
        if t >= 10 and now > best + rise:
            first = t
            break
        best = min(best, now)
        if t > 0:
            noise = 0.9 * noise + 0.1 * abs(loss - losses[t - 1])
    tx = l2ljax.guard(optax.sgd(1.0), optax.sgd(0.5), hold=1000)
    updates, state = follow(tx, losses)
    assert first is not None
    np.testing.assert_allclose(updates, [-1.0] * first + [-0.5] * (len(losses) - first))
    assert int(state.counts.loss) == 1


@pytest.mark.parametrize("decay", [0.9, 0.95, 0.5])
def test_of_steps_in_a_row_that_climb_few_are_used(decay):
    """After any past: as many as the docs say, none of a steep one; all where both climb."""
    most = int(np.log(0.5) / np.log(decay) / 2)
    directions = [1.0] * 30 + [-1.0] * 10 + [1.0] * 3 + [-1.0] * 10
    for rate, fallback, expected in ((0.0625, 0.125, most), (1.5, 0.125, 0), (1.5, -0.125, 10)):
        learned = turning(lambda u, t: jnp.asarray(directions)[t] * u, optax.sgd(rate))
        tx = l2ljax.guard(learned, optax.sgd(fallback), decay=decay, max_ratio=100)
        updates, state = follow(tx, [None] * len(directions))
        used = [update == rate for update in updates]
        assert sum(used[30:40]) == expected
        assert sum(used[43:]) <= expected
        assert int(state.counts.slope) == sum(update == -fallback for update in updates)


def test_holds_double_and_a_failure_goes_back_to_the_best_parameters():
    """Steps that are too long: 10, 20, 40 ... steps of the fallback after each failure."""
    tx = l2ljax.guard(optax.sgd(1.02), optax.sgd(0.02), hold=10, max_ratio=100, go_back=True)
    x = jnp.array([1.0])
    state, where, failures = tx.init(x), [], []
    for t in range(300):
        loss = jnp.square(x).sum()
        where.append(abs(float(x[0])))
        before = int(state.counts.loss)
        updates, state = tx.update(2 * x, state, x, value=loss)
        x = optax.apply_updates(x, updates)
        if int(state.counts.loss) > before:
            failures.append(t)
            assert min(where[-40:]) - 1e-6 <= abs(float(x[0])) < where[-1]
    gaps = np.diff(failures)
    assert len(failures) <= 1 + np.log2(1 + 300 / 10)
    assert all(gap >= 10 * 2**k for k, gap in enumerate(gaps))


@pytest.mark.parametrize(("go_back", "at_failure"), [(True, 0.0), (False, -0.5)])
def test_a_nonfinite_loss_is_a_failure_and_leaves_no_trace_in_the_average(go_back, at_failure):
    """The hold begins; the averages stay finite."""
    tx = l2ljax.guard(optax.sgd(1.0), optax.sgd(0.5), hold=3, go_back=go_back)
    updates, state = follow(tx, [1.0, 1.0, jnp.nan, 1.0, 1.0, 1.0, 1.0])
    assert updates == [-1.0, -1.0, at_failure, -0.5, -0.5, -0.5, -1.0]
    assert int(state.counts.loss) == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.watch))


def test_where_neither_is_finite_the_parameters_stay_and_states_are_finite():
    """A gradient with a NaN: a skipped step; what the NaN would have entered is as before."""
    tx = l2ljax.guard(optax.adam(0.1), optax.adam(0.1))
    _, state = tx.update(draw(2), tx.init(draw(0)), draw(0), value=1.0)
    sick = draw(1)._replace(scalar=jnp.float32(jnp.nan))
    updates, after = tx.update(sick, state, draw(0), value=1.0)
    assert_close(updates, optax.tree.zeros_like(draw(0)))
    assert int(after.counts.skipped) == 1
    for old, new in ((state.learned, after.learned), (state.fallback, after.fallback)):
        assert float(new[0].mu.scalar) == float(old[0].mu.scalar)
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(new))
    updates, after = tx.update(draw(1), after, draw(0), value=1.0)
    assert int(after.counts.skipped) == 1
    assert all(bool((leaf != 0).any()) for leaf in jax.tree.leaves(updates))


def test_a_poisoned_state_recovers():
    """A learned state that would be infinite keeps its last finite numbers, and is used again."""

    def update(updates, state, params=None):
        del params
        state = jnp.where(updates[0] > 1, jnp.inf, state + 1)
        return -0.1 * updates * jnp.minimum(state, 1.0), state

    learned = optax.GradientTransformation(lambda params: jnp.zeros(()), update)
    tx = l2ljax.guard(learned, optax.sgd(0.1))
    state = tx.init(jnp.ones(1))
    for gradient, count in ((1.0, 1.0), (2.0, 1.0), (1.0, 2.0)):
        _, state = tx.update(jnp.array([gradient]), state, jnp.ones(1))
        assert float(state.learned) == count
    assert int(state.counts.fallback) == 0


@pytest.mark.parametrize("with_value", [True, False])
def test_is_stable_under_jit_scan_vmap_and_masked(with_value):
    """Same types in and out; the update of each member of a batch is its own."""
    tx = l2ljax.guard(optax.adam(0.1), optax.sgd(0.1), max_ratio=3.0)

    def run(params, gradients, losses):
        def step(state, seen):
            gradient, loss = seen
            extra = {"value": loss} if with_value else {}
            updates, state = tx.update(gradient, state, params, **extra)
            return state, updates

        return jax.lax.scan(step, tx.init(params), (gradients, losses))

    def arguments(seed):
        gradients = jax.tree.map(stack, *[draw(seed + i) for i in (1, 2, 3)])
        return draw(seed), gradients, jnp.array([1.0, 2.0, 3.0])

    each = [run(*arguments(seed)) for seed in (0, 10)]
    batched = jax.jit(jax.vmap(run))(*jax.tree.map(stack, arguments(0), arguments(10)))
    assert_close(batched, jax.tree.map(stack, *each), rtol=1e-4, atol=1e-6)
    masked = optax.masked(tx, {"w": True, "step": False})
    tree = {"w": jnp.ones(2), "step": jnp.int32(7)}
    updates, _ = masked.update(tree, masked.init(tree), tree)
    assert updates["step"] == 7
    for dtype in ("bfloat16", "float64"):
        with jax.enable_x64(True):
            state = jax.eval_shape(tx.init, draw(0, dtype))
            updates, after = jax.eval_shape(
                lambda g, s, p: tx.update(g, s, p, value=1.0), draw(1, dtype), state, draw(0, dtype)
            )
        assert {str(u.dtype) for u in jax.tree.leaves(updates)} == {dtype}
        assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, after)
        assert [x.dtype for x in jax.tree.leaves(state)] == [
            x.dtype for x in jax.tree.leaves(after)
        ]


@pytest.mark.parametrize("go_back", [False, True])
def test_state_is_that_of_both_optimizers_and_some_scalars(go_back):
    """Going back adds the parameters, and is asked for."""

    def numbers(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    params = {"w": jnp.ones((30, 40)), "b": jnp.ones(40)}
    learned, fallback = l2ljax.pretrained(), optax.adam(1e-3)
    state = l2ljax.guard(learned, fallback, go_back=go_back).init(params)
    expected = numbers(learned.init(params)) + numbers(fallback.init(params))
    assert numbers(state) - expected - go_back * numbers(params) == 15


def test_a_fresh_state_shares_no_buffer_with_the_parameters():
    """So both can be donated."""
    params = draw(0)
    state = l2ljax.guard(optax.adam(0.1), optax.adam(0.1), go_back=True).init(params)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((params, state))]
    assert len(set(pointers)) == len(pointers)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_ratio": 0}, ValueError, "max_ratio must be a finite number above 0"),
        ({"tolerance": -1.0}, ValueError, "tolerance must be a finite number above 0"),
        ({"decay": 1.0}, ValueError, "decay must be a number from 0 to below 1"),
        ({"hold": 0}, ValueError, "hold must be an integer of at least 1"),
        ({"fallback": 3}, TypeError, "fallback must be an Optax transformation"),
    ],
)
def test_wrong_arguments_are_refused_at_the_door(options, error, message):
    """In a sentence that names them."""
    with pytest.raises(error, match=message):
        l2ljax.guard(**({"learned": optax.sgd(0.1), "fallback": optax.sgd(0.1)} | options))
