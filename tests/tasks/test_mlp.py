"""A multilayer perceptron on images, against one in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax.tasks import mlp
from l2ljax.tasks.data import Images

# Image i is filled with grey level i, and its label is a function of i: rows tell who they are.
NUMBERED = Images(
    jnp.arange(40, dtype=jnp.uint8)[:, None, None, None] * jnp.ones((1, 2, 3, 1), jnp.uint8),
    jnp.arange(40) * 7 % 10,
)

NUMPY_ACTIVATIONS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    # Hendrycks and Gimpel (2016), section 2: the tanh form.
    "gelu": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}


def numpy_cross_entropy(params, images, labels, activation):
    """Mean of -log softmax, in float64."""
    x = np.reshape(images, (len(images), -1)).astype(np.float64)
    for i, layer in enumerate(params):
        x = x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])
        if i < len(params) - 1:
            x = NUMPY_ACTIVATIONS[activation](x)
    probabilities = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    return -np.mean([np.log(row[label]) for row, label in zip(probabilities, labels, strict=True)])


@pytest.mark.parametrize("hidden_sizes", [(), (4,), (5, 4)])
@pytest.mark.parametrize("activation", NUMPY_ACTIVATIONS)
def test_loss_is_the_cross_entropy_of_a_numpy_mlp(activation, hidden_sizes):
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(12, 2, 3, 1)).astype(np.float32), np.arange(12) % 5
    task = mlp((images, labels), hidden_sizes, activation)
    sizes = [6, *hidden_sizes, 5]
    params = [
        {"kernel": np.float32(rng.normal(size=(m, n))), "bias": np.float32(rng.normal(size=n))}
        for m, n in itertools.pairwise(sizes)
    ]
    initial = jax.eval_shape(task.init, (), jax.random.key(0))
    assert jax.tree.map(np.shape, initial) == jax.tree.map(np.shape, params)
    expected = numpy_cross_entropy(params, images, labels, activation)
    actual = task.loss(jax.tree.map(jnp.asarray, params), Images(jnp.asarray(images), labels))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_the_papers_mnist_network_has_15910_parameters():
    """784 x 20 + 20 + 20 x 10 + 10."""
    task = mlp((np.zeros((10, 28, 28, 1), np.uint8), np.arange(10)))
    params = jax.eval_shape(task.init, (), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 15_910


def test_weights_start_normal_with_variance_one_over_fan_in_and_biases_at_zero():
    """784 x 200 and 200 x 50 weights; moments within 5 standard errors."""
    task = mlp((np.zeros((50, 28, 28, 1), np.uint8), np.arange(50)), hidden_sizes=(200,))
    for layer, fan_in in zip(task.init((), jax.random.key(0)), (784, 200), strict=True):
        z = np.float64(layer["kernel"]).ravel() * fan_in**0.5
        assert abs(z.mean()) < 5 / z.size**0.5
        assert abs((z**2).mean() - 1) < 5 * (2 / z.size) ** 0.5
        assert abs((z**4).mean() - 3) < 5 * (96 / z.size) ** 0.5
        assert not np.any(layer["bias"])


def test_weights_and_biases_start_with_one_standard_deviation_if_asked():
    """784 x 200 and 200 x 500 weights, 200 and 500 biases; moments within 5 standard errors."""
    images = np.zeros((500, 28, 28, 1), np.uint8)
    task = mlp((images, np.arange(500)), hidden_sizes=(200,), init_stddev=0.01)
    leaves = jax.tree.leaves(task.init((), jax.random.key(0)))
    assert sorted(leaf.shape for leaf in leaves) == [(200,), (200, 500), (500,), (784, 200)]
    for leaf in leaves:
        z = np.float64(leaf).ravel() / 0.01
        assert abs(z.mean()) < 5 / z.size**0.5
        assert abs((z**2).mean() - 1) < 5 * (2 / z.size) ** 0.5
        assert abs((z**4).mean() - 3) < 5 * (96 / z.size) ** 0.5


def test_a_minibatch_has_rows_of_the_data_set_scaled_to_one_with_their_labels():
    task = mlp(NUMBERED, batch_size=30)
    batch = task.batch(task.data, (), jax.random.key(0))
    assert (batch.images.shape, batch.images.dtype) == ((30, 2, 3, 1), jnp.float32)
    rows = np.rint(np.asarray(batch.images)[:, 0, 0, 0] * 255).astype(int)
    expected = np.broadcast_to(rows[:, None, None, None] / 255, (30, 2, 3, 1))
    np.testing.assert_allclose(batch.images, expected, rtol=1e-6)
    np.testing.assert_array_equal(batch.labels, rows * 7 % 10)


def test_every_row_is_drawn_equally_often():
    """Counts of 40 rows in 40,000 draws: multinomial, so within 5 standard deviations of 1,000."""
    task = mlp(NUMBERED, batch_size=40_000)
    images = task.batch(task.data, (), jax.random.key(0)).images
    counts = np.bincount(np.rint(np.asarray(images)[:, 0, 0, 0] * 255).astype(int), minlength=40)
    assert np.abs(counts - 1000).max() < 5 * (40_000 * 1 / 40 * 39 / 40) ** 0.5


def test_white_is_one_and_black_zero():
    images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1) * np.ones((1, 2, 2, 1), np.uint8)
    task = mlp((images, np.array([0, 1])), batch_size=20)
    batch = task.batch(task.data, (), jax.random.key(0))
    np.testing.assert_array_equal(np.unique(batch.images), [0, 1])


def test_float_images_are_taken_as_they_are():
    images = np.float32([-300.0, 1e-3, 7.0]).reshape(3, 1, 1, 1)
    task = mlp((images, np.arange(3)), batch_size=20)
    batch = task.batch(task.data, (), jax.random.key(0))
    np.testing.assert_array_equal(batch.images, images[np.asarray(batch.labels)])


def test_num_classes_is_the_largest_label_and_one_unless_given():
    for num_classes, outputs in ((None, 10), (12, 12)):
        task = mlp(NUMBERED, num_classes=num_classes)
        params = jax.eval_shape(task.init, (), jax.random.key(0))
        assert params[-1]["bias"].shape == (outputs,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "swish"}, r"activation must be one of \[.*'sigmoid'.*\], got 'swish'"),
        ({"hidden_sizes": (20, 0)}, r"hidden_sizes must be positive integers.* got \(.*, 0\)"),
        ({"hidden_sizes": (2.5,)}, r"hidden_sizes must be positive integers.* got \(2\.5,\)"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"batch_size": 8.0}, r"batch_size must be an integer of at least 1, got 8\.0"),
        ({"num_classes": 9}, "num_classes must be an integer of at least 10, got 9"),
        ({"init_stddev": 0}, "init_stddev must be a finite number above 0, got 0"),
        ({"init_stddev": "small"}, "init_stddev must be a finite number above 0, got 'small'"),
        ({"num_classes": 10.0}, r"num_classes must be an integer of at least 10, got 10\.0"),
        ({"dataset": (NUMBERED.images, NUMBERED.labels[:-1])}, r"\(40, 2, 3, 1\) and .* \(39,\)"),
        ({"dataset": (NUMBERED.images, NUMBERED.labels / 2)}, "integer labels .* float32"),
        ({"dataset": NUMBERED.images}, "dataset must "),
        ({"dataset": (NUMBERED.images, NUMBERED.labels - 1)}, "labels must be at least 0, got -1"),
        ({"dataset": (jnp.int32(NUMBERED.images), NUMBERED.labels)}, "as uint8, .* got int32"),
    ],
)
def test_refuses_with_a_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        mlp(**({"dataset": NUMBERED} | arguments))
