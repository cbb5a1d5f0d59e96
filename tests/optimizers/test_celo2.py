"""`celo2` beside what the official code computed, and what its steps must be by its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from zoo import ZOO, below, largest_difference, needs_zoo, problem_of, reference, replay

import l2ljax
from l2ljax.optimizers import celo, celo2, load_published, scale_by_celo2, velo
from l2ljax.optimizers.features import factored_axes


def published():
    """The published weights as meta-parameters."""
    return load_published("celo2", ZOO / "celo2.npz")[1]


@needs_zoo
@pytest.mark.parametrize("block_size", [None, 7])
@pytest.mark.parametrize(
    ("run", "tolerance"),
    [
        ("P1_no_ns", 1e-5),
        ("P2_no_ns", 1e-5),
        ("P3_no_ns", 1e-5),
        # Newton-Schulz makes ten times as much of the gradients' rounding.
        ("P1_celo2", 5e-5),
        ("P2_celo2", 5e-5),
        ("P3_celo2", 5e-5),
    ],
)
def test_takes_the_steps_of_the_official_code(run, tolerance, block_size):
    """All ranks of tensors in P2; steps have a root mean square of 1."""
    if block_size is not None and not run.startswith("P2"):
        pytest.skip("one problem has all shapes")
    archive, problem = reference("celo2"), problem_of("celo2", run)
    tx = scale_by_celo2(published(), orthogonalize=run.endswith("celo2"), block_size=block_size)
    tx = optax.chain(tx, optax.scale_by_learning_rate(0.01))
    gradients = below(archive, f"grads/{problem}/")
    _, updates = replay(tx, below(archive, f"theta0/{problem}/"), gradients)
    for leaf, expected in below(archive, f"updates/{run}/").items():
        difference = np.abs(-100 * updates[leaf] - expected).max()
        assert difference < tolerance * np.abs(expected).max(), leaf


@needs_zoo
@pytest.mark.parametrize("run", ["P1_chain", "P2_chain", "P3_chain"])
def test_takes_the_steps_of_the_official_chain(run):
    """Matrices by Celo2 with decay, the rest by AdamW: in Optax's parts, as its authors have it."""
    tx = optax.partition(
        {
            "matrix": optax.chain(
                scale_by_celo2(published()),
                optax.add_decayed_weights(0.1),
                optax.scale_by_learning_rate(0.01),
            ),
            "vector": optax.adamw(0.01, 0.9, 0.95, weight_decay=0.1),
        },
        lambda params: jax.tree.map(lambda p: "matrix" if p.ndim > 1 else "vector", params),
    )
    assert largest_difference(tx, "celo2", run) < 1e-4


def fresh_update(params, gradient, **options):
    """One update with fresh weights."""
    optimizer = celo2(**options)
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    return jax.jit(lambda g, p: tx.update(g, tx.init(p), p)[0])(gradient, params)


def test_vectors_are_adams():
    """By default, at the learning rate times the factor."""
    gradient = jnp.array([3.0, -1e-3, 0.0])
    update = fresh_update(jnp.ones(3), gradient, learning_rate=0.01, vector_factor=20.0)
    adam = optax.adam(0.2, 0.9, 0.95)
    expected, _ = adam.update(gradient, adam.init(gradient))
    np.testing.assert_allclose(update, expected, rtol=1e-5)


@pytest.mark.parametrize("orthogonalize", [True, False])
def test_a_step_has_the_length_of_the_learning_rate(orthogonalize):
    """The root mean square of each matrix, whatever the gradient's size."""
    normal = np.random.default_rng(0).normal
    for size in (1e-3, 1e2):
        gradient = jnp.asarray(size * normal(size=(2, 5, 4)), jnp.float32)
        update = fresh_update(gradient, gradient, orthogonalize=orthogonalize)
        np.testing.assert_allclose(np.sqrt((update**2).mean((1, 2))), 0.01, rtol=1e-3)


@pytest.mark.parametrize("shape", [(3, 5, 64), (6, 130)], ids=str)
def test_blocks_give_what_the_whole_gives(shape):
    """Matrices of a stack each by their own mean squares, which take one pass over all of them."""
    normal = np.random.default_rng(0).normal
    gradient, params = (jnp.asarray(normal(size=shape), jnp.float32) for _ in range(2))
    updates = [
        fresh_update(params, gradient, orthogonalize=False, block_size=block_size)
        for block_size in (None, 100)
    ]
    np.testing.assert_allclose(*updates, rtol=1e-4, atol=1e-7)


def test_ties_of_the_factored_axes_go_to_the_later_axis():
    """A stable sort, where the published code leaves it to NumPy's version."""
    assert factored_axes((64, 64, 3, 3)) == (0, 1)
    assert factored_axes((3, 3, 64, 64)) == (2, 3)
    assert factored_axes((4, 4, 4, 4)) == (2, 3)


def test_needs_params_and_says_so():
    """In one sentence."""
    optimizer = celo2()
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    with pytest.raises(ValueError, match="scale_by_celo2 reads the parameters, got params=None"):
        tx.update(jnp.ones(3), tx.init(jnp.ones(3)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"vectors": "sgd"}, ValueError, r"vectors must be one of \['adam', 'network'\], got"),
        ({"orthogonalize": 1}, TypeError, "orthogonalize must be a bool, got 1"),
        ({"learning_rate": "fast"}, ValueError, "learning_rate must be a finite number, got"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_arguments_are_refused_at_the_door(arguments, error, message):
    """By the builder, with what was given."""
    with pytest.raises(error, match=message):
        celo2(**arguments)


@pytest.mark.parametrize(
    "optimizer", [celo2((4,)), celo(num_steps=4), velo(num_steps=4)], ids=["celo2", "celo", "velo"]
)
def test_exact_meta_gradients_are_finite_where_a_gradient_is_always_zero(optimizer):
    """Of a unit that never acts: no root of its moments may have an infinite slope."""
    steepness = jnp.array([0.0, 1.0, 3.0])
    task = l2ljax.Task(
        init=lambda _, key: {"x": jnp.ones(3), "w": jnp.ones((3, 3))},
        loss=lambda p, _: jnp.sum(steepness * p["x"] ** 2) + jnp.sum(steepness * p["w"] ** 2),
    )
    estimator = l2ljax.truncated_bptt(
        task,
        optimizer,
        num_tasks=1,
        episode_length=3,
        unroll_length=3,
        backward="scan",
        second_derivatives=True,
    )
    meta_params = optimizer.init(jax.random.key(0))
    state = estimator.init(jax.random.key(1), meta_params)
    _, grads, *_ = jax.jit(estimator.estimate)(meta_params, state, jax.random.key(2))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert any((np.asarray(leaf) != 0).any() for leaf in jax.tree.leaves(grads))
