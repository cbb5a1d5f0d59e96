"""What every task is: one contract, held for each line of `CASES`."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax.tasks import (
    autoencoder,
    byte_model,
    convnet,
    factorisation,
    feature_inversion,
    image_convnet,
    image_mlp,
    implicit_field,
    mlp,
    neural_art,
    oscillator,
    poisson,
    quadratic,
    teacher,
    valley,
)
from l2ljax.tasks.data import load_dataset
from l2ljax.tasks.features import Extractor
from l2ljax.tasks.rotations import orthogonal
from l2ljax.tasks.transforms import (
    as_task,
    convex_helper,
    noisy_labels,
    random_scale,
    scale_loss,
)

DIGITS = load_dataset("digits", "train")
PICTURES = jax.random.uniform(jax.random.key(0), (300, 12, 16, 3))
MIXED_COLOURS = Extractor(
    params=jax.random.normal(jax.random.key(1), (3, 4)),
    apply=lambda matrix, image, taps: dict.fromkeys(taps, jnp.tanh(image @ matrix)),
    taps=("mixed",),
    content_tap="mixed",
    style_taps=("mixed",),
)

CASES = {
    "quadratic": quadratic(),
    "quadratic-scaled": quadratic(dim=3, matrix_scale=0.5, target_scale=2.0, init_scale=3.0),
    "mlp": mlp(DIGITS, batch_size=8),
    "mlp-linear": mlp(DIGITS, (), batch_size=8),
    "mlp-relu-two-layers": mlp(DIGITS, (6, 5), "relu", batch_size=8, num_classes=12),
    "mlp-tanh": mlp(DIGITS, (6,), "tanh", batch_size=8),
    "mlp-gelu": mlp(DIGITS, (6,), "gelu", batch_size=8),
    "convnet": convnet(DIGITS, (3, 4), (5,), kernel_size=3, batch_size=8),
    "neural-art": neural_art(PICTURES, PICTURES[0], extractor=MIXED_COLOURS, content_weight=10.0),
    "image-mlp-layernorm-dropout": image_mlp(
        DIGITS, (6, 5), normalisation="layer", dropout=0.2, batch_size=8
    ),
    "image-mlp-batchnorm-squared": image_mlp(
        DIGITS, (6,), "tanh", normalisation="batch", loss="squared", batch_size=8
    ),
    "image-convnet": image_convnet(DIGITS, (3, 4), "tanh", normalisation="batch", batch_size=8),
    "autoencoder": autoencoder(DIGITS, (6, 3, 6), batch_size=8),
    "bytes-gru": byte_model("gru", 8, 1, 4, 2),
    "bytes-transformer": byte_model("transformer", 8, 1, 4, 2),
    "teacher": teacher(3, 4, (5,), batch_size=8),
    "implicit-field": implicit_field(8, (6,), 2),
    "feature-inversion": feature_inversion(8, (4, 3)),
    "poisson": poisson((6,), 8),
    "oscillator": oscillator((6,), 8),
    "valley": valley(4, 10.0, noise=0.1),
    "factorisation": factorisation(4, 5, 2),
    "transformed": scale_loss(random_scale(quadratic(dim=3), 0.5, 2.0, per_tensor=True), 0.5, 2.0),
    "transformed-mlp": noisy_labels(convex_helper(mlp(DIGITS, (5,), batch_size=8)), 0.2, 10),
    "as-task": as_task(
        lambda w, batch: jnp.mean((batch[0] @ w - batch[1]) ** 2),
        lambda key: jax.random.normal(key, (64,)),
        (jax.random.normal(jax.random.key(2), (500, 64)), jnp.ones(500)),
        batch_size=8,
    ),
}

every_task = pytest.mark.parametrize("task", CASES.values(), ids=CASES.keys())


def draw(task, key):
    """One instance, theta_0, one batch, the loss and its gradient there."""
    sample_key, init_key, batch_key = jax.random.split(key, 3)
    instance = task.sample(task.data, sample_key)
    params = task.init(instance, init_key)
    batch = task.batch(task.data, instance, batch_key)
    return instance, params, batch, *jax.value_and_grad(task.loss)(params, batch)


jitted_draw = jax.jit(draw)


def plain(tree):
    """Random keys as their numbers, which compare and stack."""

    def one(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return jax.tree.map(one, tree)


def types(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def assert_close(actual, expected):
    """The same trees up to float32 rounding."""
    assert types(actual) == types(expected)
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, 1e-5, 1e-6), actual, expected)


def differ(tree, other):
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    return any(not np.array_equal(one, another) for one, another in pairs)


@every_task
def test_different_keys_draw_differently(task):
    instance, params, batch, _, _ = jitted_draw(task, jax.random.key(0))
    another, start, minibatch, _, _ = jitted_draw(task, jax.random.key(1))
    assert differ(params, start)
    assert differ(batch, minibatch)
    assert not jax.tree.leaves(instance) or differ(instance, another)


@every_task
def test_vmap_over_keys_is_the_loop(task):
    """Two traces that agree: the functions are pure, and all randomness is the key's."""
    keys = jax.random.split(jax.random.key(2), 3)
    each = [plain(jitted_draw(task, key)) for key in keys]
    batched = plain(jax.jit(jax.vmap(draw, in_axes=(None, 0)))(task, keys))
    assert_close(batched, jax.tree.map(lambda *leaves: np.stack(leaves), *each))


@every_task
def test_params_are_strongly_typed_float_arrays(task):
    _, params, *_ = jitted_draw(task, jax.random.key(3))
    for leaf in jax.tree.leaves(params):
        assert isinstance(leaf, jax.Array)
        assert jnp.issubdtype(leaf.dtype, jnp.floating)
        assert not leaf.weak_type


@every_task
def test_loss_is_a_finite_scalar_with_a_finite_gradient_like_the_params(task):
    _, params, _, loss, gradient = jitted_draw(task, jax.random.key(4))
    assert (loss.shape, loss.dtype) == ((), jnp.float32)
    assert np.isfinite(loss)
    assert types(gradient) == types(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


@every_task
def test_steps_along_the_gradient_change_the_loss_by_its_norm(task):
    """(f(theta + r u) - f(theta - r u)) / 2 r = |g| + O(r^2), with u = g / |g|."""
    _, params, batch, _, gradient = jitted_draw(task, jax.random.key(5))
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradient)))
    step = 3e-3 / norm
    above, below = (
        jax.jit(task.loss)(jax.tree.map(lambda x, g, s=s: x + s * g, params, gradient), batch)
        for s in (step, -step)
    )
    np.testing.assert_allclose((above - below) / 6e-3, norm, rtol=0.02)


def largest_literal(lowered):
    """Characters in the longest constant of a program."""
    return max(map(len, re.findall(r"dense<([^>]*)>", lowered.as_text())), default=0)


@every_task
def test_data_are_leaves_of_the_task_and_no_constants_of_the_program(task):
    assert list(map(id, jax.tree.leaves(task))) == list(map(id, jax.tree.leaves(task.data)))
    key = jax.random.key(6)
    assert largest_literal(jitted_draw.lower(task, key)) < 1000
    if jax.tree.leaves(task.data):  # what it looks like when they are
        assert largest_literal(jax.jit(lambda key: draw(task, key)).lower(key)) > 1000


@pytest.mark.parametrize(
    "name", [name for name, task in CASES.items() if jax.tree.leaves(task.data)]
)
def test_vmap_over_keys_copies_no_data(name):
    """Temporaries and results together take less memory than the data set does once."""
    task, keys = CASES[name], jax.random.split(jax.random.key(7), 4)

    def batches(task, keys):
        instances = jax.vmap(lambda key: task.sample(task.data, key))(keys)
        return jax.vmap(task.batch, in_axes=(None, 0, 0))(task.data, instances, keys)

    memory = jax.jit(batches).lower(task, keys).compile().memory_analysis()
    data_size = sum(leaf.nbytes for leaf in jax.tree.leaves(task.data))
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes < data_size


FACTORINGS = {"qr", "geqrf", "geqp3", "householder_product", "cholesky", "lu", "svd", "eigh", "eig"}


def factored(jaxpr):
    """Numbers of axes of the matrices that a program factors on a CPU by LAPACK."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in FACTORINGS:
            yield equation.invars[0].aval.ndim
        inner = list(equation.params.values())
        for value in jax.tree.leaves(inner, is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(value, "eqns"):  # open or closed
                yield from factored(value)


@every_task
def test_many_optimizees_are_drawn_without_a_batch_of_factored_matrices(task):
    """Two such batches at once can stand still for ever on two cores (`l2ljax.tasks.rotations`)."""
    keys = jax.random.split(jax.random.key(8), 3)
    program = jax.make_jaxpr(jax.vmap(draw, in_axes=(None, 0)))(task, keys)
    assert set(factored(program.jaxpr)) <= {2}


def test_a_batch_of_factored_matrices_would_be_seen():
    keys = jax.random.split(jax.random.key(9), 3)
    program = jax.make_jaxpr(jax.vmap(lambda key: jax.random.orthogonal(key, 4)))(keys)
    assert 3 in set(factored(program.jaxpr))


def test_rotations_are_those_of_jax_bit_by_bit():
    """In any shape, one or many."""
    keys = jax.random.split(jax.random.key(10), 4)
    for shape in ((3, 3), (5, 2), (2, 5)):
        expected = jnp.stack([jax.nn.initializers.orthogonal()(key, shape) for key in keys])
        found = jax.jit(jax.vmap(lambda key, shape=shape: orthogonal(key, shape)))(keys)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(orthogonal(keys[0], shape), expected[0])
