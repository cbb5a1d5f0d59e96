"""Meta-gradients of the authors' own code, with the noise that it used.

`../shared/zoo/reference` holds what the official functions computed; where it is missing these
tests skip. The noise of a draw is a table's entry, and a random key says which.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evolution_problems import influence_balancing, toy_regression

from l2ljax.estimators import es, evolution, gpes, nres, perturbations, pes
from l2ljax.estimators.particles import WindowKeys

REFERENCE = Path(__file__).parents[2] / ".." / "shared" / "zoo" / "reference"
FILES = {name: REFERENCE / f"{name}.npz" for name in (
    "es_persistent_es", "es_learned_optimization_and_nres",
)}  # fmt: skip
pytestmark = pytest.mark.skipif(
    not all(path.exists() for path in FILES.values()), reason="no ../shared/zoo/reference"
)
TOLERANCE = 1e-5


def arrays(name):
    return np.load(FILES[name])


def marked(shape, draw=0):
    """Random keys whose data are (draw, position), so that a table can be looked up."""
    numbers = jnp.arange(np.prod(shape), dtype=jnp.uint32).reshape(shape)
    return jax.random.wrap_key_data(
        jnp.stack([jnp.full(shape, draw, jnp.uint32), numbers], axis=-1), impl="threefry2x32"
    )


@pytest.fixture
def from_table(monkeypatch):
    """Replaces random noise: of pair p, drawn before step j of window w, by `table[w, j, p]`."""

    def install(table):
        def draw(key):
            data = jax.random.key_data(key)
            return jnp.asarray(table)[data[0] // 1000, data[0] % 1000, data[1]]

        def fold(keys, number):
            data = jax.random.key_data(keys)
            data = data.at[..., 0].add(jnp.asarray(number, jnp.uint32))
            return jax.random.wrap_key_data(data, impl="threefry2x32")

        monkeypatch.setattr(evolution, "gaussian", lambda sigma, meta_params: draw)
        monkeypatch.setattr("l2ljax.estimators.particles.fold", fold)
        monkeypatch.setattr(perturbations, "fold", fold)

    return install


def gradients(estimator, theta, windows):
    """Meta-gradients of successive windows, whose noise keys name the window."""
    state = estimator.init(jax.random.key(0), theta)
    if not isinstance(estimator, evolution.EvolutionStrategy):
        raise TypeError
    state = state._replace(pairs=state.pairs._replace(keys=marked(state.pairs.keys.shape)))

    @jax.jit
    def window(theta, state, noise_keys):
        task_keys = jax.random.split(jax.random.key(1), 1)
        keys = WindowKeys(task_keys, task_keys, noise_keys)
        (sums, count), state, _ = estimator._window(estimator.task, theta, state, keys)
        return sums / count, state

    found = []
    for number in range(windows):
        shape = (1, estimator.num_perturbations)
        grad, state = window(theta, state, marked(shape, 1000 * number))
        found.append(np.asarray(grad))
    return np.stack(found)


def assert_close(found, expected, rounding=0.0):
    """To 1e-5 of each window's gradient, or to the `rounding` of its losses where that is more."""
    scale = np.abs(expected).max(axis=-1, keepdims=True)
    assert np.all(np.abs(found - expected) <= np.maximum(TOLERANCE * scale, rounding))


def toy_rounding(noise, sigma, loss):
    """Of a difference of two float32 losses near `loss`, an ulp or two, times the largest xi."""
    return 2 * np.finfo(np.float32).eps * loss * np.abs(noise).max() / (2 * sigma**2)


PERSISTENT = {
    "infl_K1": (None, 1, 0.1, 12),
    "infl_K5": (None, 5, 0.1, 12),
    "infl_K5_T20": (20, 5, 0.1, 12),
    "toy_T100_K10": (100, 10, 0.3, 25),
    "toy_T100_K10_b": (100, 10, 0.2, 25),
    "toy_T20_K20": (20, 20, 0.2, 4),
}


@pytest.mark.parametrize("name", PERSISTENT)
@pytest.mark.parametrize("kind", ["es", "pes"])
def test_persistent_es(name, kind, from_table):
    """Vicol et al.: sums over windows, or their last losses; episodes end at windows' ends."""
    data = arrays("es_persistent_es")
    length, unroll, sigma, windows = PERSISTENT[name]
    influence = name.startswith("infl")
    task, optimizer = influence_balancing() if influence else toy_regression(length)
    noise = data[f"noise/{name}"]  # [windows, pairs, d]
    theta = jnp.asarray(data[f"theta/{name}"])
    if influence:
        noise, theta = noise[..., 0], theta[0]
    from_table(noise[:, None])
    estimator = {"es": es, "pes": pes}[kind](
        task, optimizer, num_tasks=1, episode_length=length or 10_000, unroll_length=unroll,
        num_perturbations=4, sigma=sigma, reduction="last" if influence else "sum",
    )  # fmt: skip
    found = gradients(estimator, theta, windows).reshape(windows, -1)
    # A window's loss is about 24 a step, nearly the same under all perturbations.
    rounding = 0.0 if influence else toy_rounding(noise, sigma, 24 * unroll)
    assert_close(found, data[f"grad/{name}/{kind}"], rounding)


REUSED = {
    "infl_nres": (20, None, 0.1),
    "infl_nres_ends_inside": (7, None, 0.1),
    "infl_gpes_K5_is_pes": (20, 5, 0.1),
    "infl_gpes_K10": (20, 10, 0.1),
    "infl_gpes_K20_is_nres": (20, 20, 0.1),
    "infl_gpes_K7_ends_inside": (7, 7, 0.1),
    "toy_nres": (20, None, 0.2),
    "toy_gpes_K5_is_pes": (20, 5, 0.2),
}


@pytest.mark.parametrize("name", REUSED)
def test_noise_reuse(name, from_table):
    """Li et al.: means over windows of 5 steps; episodes of 7 end inside them."""
    data = arrays("es_learned_optimization_and_nres")
    length, reuse_length, sigma = REUSED[name]
    influence = name.startswith("infl")
    task, optimizer = influence_balancing() if influence else toy_regression(length)
    table = data[f"noise/{name}"]
    given = f"in/{name.split('_')[0]}_nres/theta"
    theta = jnp.asarray(data[given])
    if influence:  # of their two parameters the second does nothing
        optimizer = optimizer._replace(
            transform=lambda theta, inner=optimizer: inner.transform(theta[0])
        )
    from_table(table)
    build = (
        nres if reuse_length is None else lambda *a, **k: gpes(*a, reuse_length=reuse_length, **k)
    )
    estimator = build(
        task,
        optimizer,
        num_tasks=1,
        episode_length=length,
        unroll_length=5,
        num_perturbations=4,
        sigma=sigma,
        reduction="mean",
    )
    found = gradients(estimator, theta, 8)
    rounding = 0.0 if influence else toy_rounding(table, sigma, 24)
    assert_close(found, data[f"out/{name}/grad"], rounding)


@pytest.mark.parametrize("case", ["plain", "ends_inside", "sign"])
def test_learned_optimization(case, monkeypatch):
    """compute_pes_grad on given losses, with steps left out and episodes that end anywhere."""
    data = arrays("es_learned_optimization_and_nres")
    given = {
        k: jnp.asarray(data[f"in/{case}/{k}"])
        for k in ("pos_loss", "neg_loss", "is_done", "mask", "std")
    }
    eps = {k: jnp.asarray(data[f"in/{case}/vec_pos/{k}"]) for k in "ab"}
    total = {k: jnp.asarray(data[f"in/{case}/accumulator/{k}"]) for k in "ab"}
    mask = given["mask"].astype(jnp.float32)
    restarted = given["is_done"][..., None]  # [steps, tasks, 1 pair]
    values = jnp.stack([given["pos_loss"], given["neg_loss"]], axis=-1)[:, :, None]
    _, coefficients = perturbations.window_coefficients(
        values, values, restarted, mask / mask.sum(axis=0), delta=False, sign=case == "sign"
    )
    redrawn = jnp.zeros_like(restarted).at[0].set(True)
    keys = marked((4, 1))

    def draw(key):
        return jax.tree.map(lambda x: x[jax.random.key_data(key)[1]], eps)

    monkeypatch.setattr(perturbations, "fold", lambda keys, number: keys)
    sums, after = perturbations.score(
        coefficients,
        redrawn,
        restarted,
        keys,
        keys,
        jax.tree.map(lambda x: x[:, None], total),
        draw,
    )
    deviations = dict.fromkeys("ab", given["std"])
    fine = jnp.ones((4, 1), bool)
    for k, grad in perturbations.gradient_sum(sums, fine, deviations).items():
        np.testing.assert_allclose(grad / 4, data[f"out/{case}/pes_grad/{k}"], rtol=1e-5)
        np.testing.assert_allclose(
            after[k][:, 0], data[f"out/{case}/new_accumulator/{k}"], rtol=1e-6
        )
