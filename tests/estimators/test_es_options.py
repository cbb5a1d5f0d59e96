"""Options of evolution strategies: staggered tasks, other objectives, divergence, errors."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from evolution_problems import linear_system
from test_es_exact import ESTIMATE, windows

from l2ljax.base import GradientEstimator, LearnedOptimizer, Task
from l2ljax.estimators import curriculum, es, full_es, gpes, mixture, nres, pes, truncated_bptt
from l2ljax.optimizers import nominal

TASK, OPTIMIZER = linear_system()
PHI = OPTIMIZER.init(jax.random.key(0))
SOME = {"num_tasks": 4, "episode_length": 8, "unroll_length": 2, "num_perturbations": 2,
        "sigma": 0.1}  # fmt: skip


def test_tasks_stand_at_different_places():
    """Spread over the episode's windows from the first restart on; together without stagger."""
    found = windows(pes(TASK, OPTIMIZER, **SOME), PHI, 6)
    assert [set(m["position"].tolist()) for *_, m in found][:1] == [{0}]
    assert sorted(found[4][2]["position"].tolist()) == [0, 2, 4, 6]
    found = windows(pes(TASK, OPTIMIZER, stagger=False, **SOME), PHI, 6)
    assert [m["position"].tolist() for *_, m in found] == [[p] * 4 for p in (0, 2, 4, 6, 0, 2)]


def test_lengths_are_drawn_log_uniformly():
    """Of 2,000 first episodes; P(n) = log((n + 1) / n) / log(8 / 3) for n = 3 ... 7."""
    options = SOME | {"num_tasks": 2000, "episode_length": (3, 7)}
    state = nres(TASK, OPTIMIZER, stagger=False, **options).init(jax.random.key(0), PHI)
    counts = np.bincount(np.asarray(state.episodes.length), minlength=9)
    expected = np.asarray([np.log((n + 1) / n) / np.log(8 / 3) for n in range(3, 8)])
    assert counts[3:8].sum() == 2000
    errors = np.sqrt(expected * (1 - expected) / 2000)
    assert np.all(np.abs(counts[3:8] / 2000 - expected) < 4 * errors)


def test_objective_need_not_be_differentiable():
    """The share of steps with x > 1.5: a step function, whose smoothed slope is positive."""
    estimator = pes(
        TASK, OPTIMIZER, objective=lambda x, batch: x > 1.5, reduction="mean",
        **(SOME | {"num_perturbations": 200}),
    )  # fmt: skip
    found = windows(estimator, PHI, 2)
    assert all(0 <= float(loss) <= 1 for loss, *_ in found)
    assert float(found[-1][1]["a"]) > 0


def test_the_least_of_an_episode():
    """x_t = t (1 + phi), f = (x - 2)^2: the least is 4 phi^2 at t = 2, with the slope 8 phi.

    A pair says 8 phi epsilon^2 / sigma^2, of relative variance 2. Without a weight there t = 1 is
    the least: (phi - 1)^2.
    """
    walk = LearnedOptimizer(
        init=lambda key: jnp.float32(0.1),
        transform=lambda phi: optax.with_extra_args_support(
            optax.stateless(lambda g, params: jnp.ones_like(g) * (1 + phi))
        ),
    )
    task = Task(init=lambda _, key: jnp.zeros(()), loss=lambda x, _: (x - 2) ** 2)
    for weights, value, slope in ((None, 0.04, 0.8), ([1, 0, 1, 1], 0.81, -1.8)):
        estimator = full_es(
            task, walk, num_tasks=1, episode_length=4, num_perturbations=2000, sigma=1e-3,
            reduction="min", weights=weights,
        )  # fmt: skip
        (loss, grad, _), *_ = windows(estimator, jnp.float32(0.1), 1)
        np.testing.assert_allclose(loss, value, rtol=1e-3)
        assert abs(float(grad) / slope - 1) < 4 * np.sqrt(2 / 2000)
    with pytest.raises(ValueError, match="take it with full_es"):
        pes(TASK, OPTIMIZER, reduction="min", **SOME)


@pytest.mark.parametrize("reduction", ["sum", "mean", "last"])
def test_reductions_of_a_window(reduction):
    """Of one whole episode without noise to speak of: the meta-loss in closed form."""
    estimator = full_es(
        TASK, OPTIMIZER, num_tasks=1, episode_length=4, num_perturbations=1, sigma=1e-6,
        reduction=reduction, weights=[1, 2, 3, 4],
    )  # fmt: skip
    x, losses = 1.0, []
    for _ in range(4):
        x = 0.9 * x + 0.3 + 2 * 0.1
        losses.append(x)
    terms = np.asarray(losses) * [1, 2, 3, 4]
    expected = {"sum": terms.sum(), "mean": terms.mean(), "last": terms[-1]}[reduction]
    assert float(windows(estimator, PHI, 1)[0][0]) == pytest.approx(expected, rel=1e-5)


def test_log_and_delta_losses():
    """log f(theta_t) - log f(theta_0), theta_0 = 1."""
    estimator = full_es(
        TASK, OPTIMIZER, num_tasks=1, episode_length=2, num_perturbations=1, sigma=1e-6,
        loss_transform="log", delta_losses=True,
    )  # fmt: skip
    expected = np.log(1.4) + np.log(0.9 * 1.4 + 0.5)
    assert float(windows(estimator, PHI, 1)[0][0]) == pytest.approx(expected, rel=1e-5)
    # The antithetic difference of logarithms does not see the loss's scale.
    scaled = Task(init=TASK.init, loss=lambda x, b: 1e3 * x, sample=TASK.sample, batch=TASK.batch)
    logs = [
        windows(pes(t, OPTIMIZER, loss_transform="log", **SOME), PHI, 2)[1][1]
        for t in (TASK, scaled)
    ]
    chex.assert_trees_all_close(*logs, rtol=1e-3, atol=1e-4)


def test_sign_of_the_difference():
    """The gradient is that of a loss whose pairs differ by one: scale-free."""
    scaled = Task(init=TASK.init, loss=lambda x, b: 1e3 * x, sample=TASK.sample, batch=TASK.batch)
    plain, large = (
        windows(full_es(t, OPTIMIZER, sign=True, num_tasks=2, episode_length=3,
                        num_perturbations=50, sigma=0.1), PHI, 1)[0][1]
        for t in (TASK, scaled)
    )  # fmt: skip
    chex.assert_trees_all_close(plain, large, rtol=1e-6)
    # E sign(g . eps) eps / (2 sigma^2) = sqrt(2 / pi) g / |g| / (2 sigma).
    expected = np.sqrt(2 / np.pi) / np.sqrt(5) / 0.2
    assert float(plain["a"]) == pytest.approx(expected, rel=0.4)


def diverging(everywhere):
    """Infinite where x > 3, or wherever x > 0."""
    return Task(
        init=TASK.init,
        loss=lambda x, batch: jnp.where(x > (0.0 if everywhere else 3.0), jnp.inf, x),
    )


@pytest.mark.parametrize("build", [es, pes, nres, full_es])
def test_diverged_pairs_are_left_out(build):
    """The rest make a finite estimate; the pairs are counted, and start anew."""
    options = SOME | {"sigma": 0.3, "num_perturbations": 30}
    if build is full_es:
        options["episode_length"] = options["unroll_length"]
    found = windows(build(diverging(False), OPTIMIZER, **options), PHI, 3)
    assert 0 < sum(int(m["pairs_left_out"]) for *_, m in found) < 3 * 4 * 30
    for loss, grads, metrics in found:
        assert np.isfinite(float(loss))
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
        assert np.isfinite(metrics["losses"]).all()
        left_out = int(metrics["pairs_left_out"])
        assert (np.asarray(metrics["diverged_at"]) >= 0).any() == (left_out > 0)


@pytest.mark.parametrize("build", [es, pes, nres])
def test_all_diverged_is_nan(build):
    loss, grads, metrics = windows(build(diverging(True), OPTIMIZER, **SOME), PHI, 1)[0]
    assert np.isnan(float(loss))
    assert all(np.isnan(g).all() for g in jax.tree.leaves(grads))
    assert metrics["diverged_at"].tolist() == [1] * 4


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sigma": 0.0}, "sigma must be a positive"),
        ({"sigma": {"a": 0.1, "b": -1.0}}, "sigma must be a positive"),
        ({"num_perturbations": 0}, "num_perturbations must be"),
        ({"episode_length": (5, 3)}, "bounds"),
        ({"episode_length": (0, 3)}, "episode_length must be"),
        ({"reduction": "max"}, "reduction must be one of"),
        ({"perturbations_at_once": 0}, "perturbations_at_once must be"),
        ({"weights": [1.0]}, "one entry per inner step"),
    ],
)
def test_errors(options, match):
    with pytest.raises(ValueError, match=match):
        pes(TASK, OPTIMIZER, **(SOME | options))


def test_errors_of_single_kinds():
    with pytest.raises(ValueError, match="no prefix"):
        pes(TASK, OPTIMIZER, **(SOME | {"sigma": {"c": 0.1}})).init(jax.random.key(0), PHI)
    with pytest.raises(ValueError, match="reuse_length must be"):
        gpes(TASK, OPTIMIZER, reuse_length=0, **SOME)
    with pytest.raises(ValueError, match="whole episodes"):
        full_es(TASK, OPTIMIZER, **SOME)
    with pytest.raises(TypeError, match="objective must be"):
        es(TASK, OPTIMIZER, objective="accuracy", **SOME)
    with pytest.raises(ValueError, match="name -> estimator"):
        mixture({})
    with pytest.raises(TypeError, match="GradientEstimator"):
        mixture({"a": TASK})
    with pytest.raises(ValueError, match="probabilities must be"):
        mixture({"a": pes(TASK, OPTIMIZER, **SOME)}, {"b": 1.0})


def test_what_follows_a_short_episode_leaves_no_pair_out():
    """Lengths of 1 to 16 in windows of 16: optimizees that are sick from the start are half.

    Any later one, of which there are up to 15, is none of the window's loss.
    """
    sick = Task(
        sample=lambda data, key: jax.random.bernoulli(key),
        init=lambda instance, key: jnp.ones(2),
        loss=lambda p, sick: jnp.where(sick, jnp.inf, jnp.sum(p**2)),
    )
    rate = LearnedOptimizer(
        init=lambda key: jnp.float32(0.1),
        transform=lambda rate: optax.with_extra_args_support(optax.sgd(rate)),
    )
    options = {"num_tasks": 400, "num_perturbations": 1, "sigma": 0.01}
    estimator = full_es(sick, rate, episode_length=(1, 16), **options)
    loss, grads, _, metrics = ESTIMATE(estimator, jnp.float32(0.1), (), jax.random.key(3))
    assert np.isfinite([loss, grads]).all()
    assert abs(int(metrics["pairs_left_out"]) - 200) < 4 * np.sqrt(100)
    assert np.isfinite(metrics["losses"]).all()  # of first episodes alone: |1|^2 and less
    assert (np.diff(metrics["losses"]) < 0).all()


def test_a_mixture_lets_no_gradient_pass_undivided():
    """1, 1, and one whose square is beyond float32: NaN, which is skipped, and 1 again."""

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Told(GradientEstimator):
        def init(self, key, meta_params):
            return jnp.zeros([], jnp.int32)

        def estimate(self, meta_params, state, key):
            size = jnp.asarray([1.0, 1.0, 1e20, 1.0], jnp.float32)[state]
            return size, jnp.full(1, size), state + 1, {}

    estimator = mixture({"one": Told()})
    state, found = estimator.init(jax.random.key(0), jnp.ones(1)), []
    for _ in range(4):
        _, grads, state, _ = estimator.estimate(jnp.ones(1), state, jax.random.key(0))
        found.append(float(grads[0]))
    np.testing.assert_allclose(found, [1.0, 1.0, np.nan, 1.0], rtol=1e-5)


def test_a_mixture_and_a_curriculum_say_what_they_train():
    """If all say the same, so that a run's weights can be read again; of several rules none."""
    some = pes(TASK, OPTIMIZER, **SOME)
    assert mixture({"a": some}).optimizer is OPTIMIZER
    assert curriculum([(2, mixture({"a": some})), (None, some)]).optimizer is OPTIMIZER
    others = [pes(TASK, nominal((4,), num_steps=number), **SOME) for number in (10, 10, 20)]
    assert mixture(dict(zip("ab", others[:2], strict=True))).optimizer is others[0].optimizer
    assert mixture(dict(zip("abc", others, strict=True))).optimizer is None


def test_mixture_takes_turns_and_divides_by_its_members_sizes():
    """A loss 1e4 times as large counts no more; what a member does not reach is NaN."""
    large = Task(init=TASK.init, loss=lambda x, b: 1e4 * x, sample=TASK.sample, batch=TASK.batch)
    members = {
        "small": truncated_bptt(TASK, OPTIMIZER, num_tasks=3, episode_length=4, unroll_length=4),
        "large": pes(large, OPTIMIZER, **SOME),
    }
    found = windows(mixture(members), PHI, 4)
    assert [int(m["member"]) for *_, m in found] == [0, 1, 0, 1]
    norms = [np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(grads))) for _, grads, _ in found]
    np.testing.assert_allclose(norms[:2], 1, rtol=1e-5)  # each is the first of its member
    metrics = found[0][2]
    assert np.isfinite(metrics["large"]["losses"]).all()
    assert np.isnan(metrics["small"]["losses"]).all()
    assert metrics["diverged_at"].shape == (4,)
    drawn = mixture(members, {"small": 0.0, "large": 2.0}, normalize=None)
    assert [int(m["member"]) for *_, m in windows(drawn, PHI, 4)] == [0] * 4
    assert ESTIMATE(drawn, PHI, drawn.init(jax.random.key(0), PHI), jax.random.key(1))[0] > 1e3
