"""`curriculum`: which stage a meta-update is in, what is compiled when, and resuming inside one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax import experiments
from l2ljax.base import LearnedOptimizer, Task
from l2ljax.estimators import curriculum, mixture, truncated_bptt
from l2ljax.estimators._curriculum import Curriculum
from l2ljax.training.loop import meta_train

RATE = LearnedOptimizer(
    init=lambda key: jnp.float32(0.1),
    transform=lambda rate: optax.with_extra_args_support(optax.scale(-rate)),
)


def parabola(traces):
    """f(x) = x^2 from 1; each trace of the loss is noted."""

    def loss(x, batch):
        traces.append(None)
        return x**2

    return Task(init=lambda instance, key: jnp.ones(()), loss=loss)


def stage(length, traces=None):
    task = parabola([] if traces is None else traces)
    return truncated_bptt(
        task, RATE, num_tasks=1, episode_length=length, unroll_length=length, backward="scan"
    )


def slope(rate, length):
    """d/drate of the sum of (1 - 2 rate)^(2t), gradients stopped, in float64.

    With constant gradients g_s = 2 x_s, d x_t / drate is minus their sum up to t.
    """
    x, total, result = 1.0, 0.0, 0.0
    for _ in range(length):
        total += 2 * x
        x -= rate * 2 * x
        result += 2 * x * -total
    return result


def trained(estimator, number, **options):
    return meta_train(
        estimator, optax.sgd(1e-3), jnp.float32(0.1), jax.random.key(0), num_meta_updates=number,
        log_every=1, **options,
    )  # fmt: skip


def test_each_update_is_its_stages():
    """Descent by closed-form slopes: episodes of 1, 1, 3, 3, 3, 5, 5 steps."""
    estimator = curriculum([(2, stage(1)), (3, stage(3)), (None, stage(5))])
    result = trained(estimator, 7)
    rate = 0.1
    for length in (1, 1, 3, 3, 3, 5, 5):
        rate -= 1e-3 * slope(rate, length)
    np.testing.assert_allclose(result.meta_params, rate, rtol=1e-6)
    assert [entry["stage"] for entry in result.history] == [0, 0, 1, 1, 1, 2, 2]
    assert [len(entry["losses"]) for entry in result.history] == [2, 2, 4, 4, 4, 6, 6]


def test_a_stage_is_compiled_when_it_begins():
    """And once: no update traces anything but the first of its stage."""
    first, second, at = [], [], []
    estimator = curriculum([(2, stage(1, first)), (None, stage(3, second))])
    hook = lambda entry: at.append((len(first), len(second)))  # noqa: E731
    trained(estimator, 5, hook=hook)
    once = len({n for n, _ in at})
    assert once == 1
    assert at[1][1] == at[0][1] < at[2][1]  # initial states alone before it
    assert at[2:] == [at[2]] * 3


def test_a_run_goes_on_inside_a_stage(tmp_path):
    """Stopped in the middle of the second, it ends with the same bits."""
    stages = [(2, stage(1)), (4, stage(3)), (None, stage(5))]
    whole = trained(curriculum(stages), 8)
    trained(curriculum(stages), 8, workdir=tmp_path, hook=lambda entry: entry["update"] == 4)
    again = trained(curriculum(stages), 8, workdir=tmp_path)
    np.testing.assert_array_equal(again.meta_params, whole.meta_params)
    assert [entry["stage"] for entry in again.history] == [0, 0, 1, 1, 1, 1, 2, 2]
    with pytest.raises(ValueError, match=r"holds another run: estimator\.ends"):
        trained(curriculum([(3, stage(1)), *stages[1:]]), 8, workdir=tmp_path)


def test_one_program_of_all_stages_is_the_same():
    """As a member of a mixture, and under a `jax.jit` that knows no update."""
    stages = [(1, stage(1)), (2, stage(3)), (None, stage(5))]
    plain = curriculum(stages)
    found = [
        trained(mixture({"only": plain}, normalize=None), 5).meta_params,
        trained(plain, 5).meta_params,
    ]
    np.testing.assert_allclose(*found, rtol=1e-6)
    state = plain.init(jax.random.key(1), jnp.float32(0.1))
    estimate = jax.jit(Curriculum.estimate)
    for number in (0, 1, 1, 2):
        _, grads, state, metrics = estimate(plain, jnp.float32(0.1), state, jax.random.key(2))
        np.testing.assert_allclose(grads, slope(0.1, (1, 3, 5)[number]), rtol=1e-5)
        assert int(metrics["stage"]) == number
        assert "losses" not in metrics  # of different lengths


@pytest.mark.parametrize(
    ("stages", "error", "words"),
    [
        ([], ValueError, "with a stage"),
        ("abc", ValueError, "with a stage"),
        ([stage(1)], TypeError, r"must be \(meta-updates, estimator\)"),
        ([(1, "pes")], TypeError, "curriculum's stage 0"),
        ([(0, stage(1)), (None, stage(2))], ValueError, "meta-updates of curriculum's stage 0"),
        ([(None, stage(1)), (None, stage(2))], ValueError, "meta-updates of curriculum's stage 0"),
    ],
)
def test_bad_stages_are_refused(stages, error, words):
    with pytest.raises(error, match=words):
        curriculum(stages)


CONFIG = experiments.DEFAULTS | {
    "num_meta_updates": 6,
    "num_tasks": 2,
    "episode_length": 8,
    "unroll_length": 4,
    "task": {"name": "quadratic", "dim": 2},
    "optimizer": {"name": "lstm", "hidden_sizes": (2,)},
    "validation": {"num_tasks": 2, "every": 3},
    "evaluation": {"num_tasks": 2, "num_steps": 4, "num_tuning_tasks": 2},
}
NOISE = {"num_perturbations": 2, "sigma": 0.02}
STAGES = [
    [2, {"name": "truncated_bptt", "episode_length": 4, "num_tasks": 3, "stagger": True}],
    [
        None,
        {
            "name": "mixture",
            "estimators": {
                "small": {"name": "pes", "weights": "log_spaced", **NOISE},
                "large": {
                    "name": "pes",
                    "task": {"name": "quadratic", "dim": 3},
                    "episode_length": (3, 9),
                    **NOISE,
                },
            },
        },
    ],
]


def test_a_configuration_of_all_that():
    """A curriculum whose last stage is a mixture, each with what is its own."""
    config = CONFIG | {"estimator": {"name": "curriculum", "stages": STAGES}}
    first, last = experiments.build(config).estimator.stages
    assert (first.num_tasks, first.episode_length, first.unroll_length) == (3, 4, 4)
    assert (last.members["small"].episode_lengths, last.members["large"].episode_lengths) == (
        (8, 8),
        (3, 9),
    )
    small, large = (last.members[n].task for n in ("small", "large"))
    shapes = [jax.eval_shape(t.sample, t.data, jax.random.key(0)) for t in (small, large)]
    assert [jax.tree.leaves(s)[0].shape for s in shapes] == [(2, 2), (3, 3)]
    # w_t = 8 / (t H_8), H_8 = 761 / 280
    np.testing.assert_allclose(
        last.members["small"].weights, 8 * 280 / 761 / np.arange(1, 9), rtol=1e-12
    )
    wrong = [[1, {"name": "truncated_bptt", "weights": "sideways"}]]
    with pytest.raises(ValueError, match="weights must be one of"):
        experiments.build(config | {"estimator": {"name": "curriculum", "stages": wrong}})
