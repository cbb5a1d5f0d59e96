"""A convolutional network on images, against one in flax."""

import os
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from l2ljax.experiments.experiment import build_task
from l2ljax.tasks import convnet
from l2ljax.tasks._convnet import accuracy, logits
from l2ljax.tasks.data import Images, load_dataset

REAL = Path(os.environ.get("TFDS_DATA_DIR") or Path(__file__).parents[3] / "shared" / "tfds")
COLOURS = Images(jnp.zeros((20, 8, 8, 3), jnp.uint8), jnp.arange(20) % 10)
SMALL = {"channels": (4, 6), "hidden_sizes": (5,), "kernel_size": 3, "num_classes": 4}


class Reference(nn.Module):
    """The same network in flax; its parts come in the same order."""

    @nn.compact
    def __call__(self, x):
        for channels in SMALL["channels"]:
            kernel_size = (SMALL["kernel_size"],) * 2
            x = nn.Conv(channels, kernel_size, use_bias=False, precision="highest")(x)
            x = nn.relu(nn.BatchNorm(use_running_average=False)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(len(x), -1)
        for units in SMALL["hidden_sizes"]:
            x = nn.Dense(units, use_bias=False, precision="highest")(x)
            x = nn.relu(nn.BatchNorm(use_running_average=False)(x))
        return nn.Dense(SMALL["num_classes"], precision="highest")(x)


def in_flax(params):
    """Our parameters under flax's names."""
    *hidden, out = params["fc"]
    variables = {"Dense_1": out}
    for i, layer in enumerate([*params["conv"], *hidden]):
        name = f"Conv_{i}" if i < len(params["conv"]) else "Dense_0"
        variables[name] = {"kernel": layer["kernel"]}
        variables[f"BatchNorm_{i}"] = {"scale": layer["scale"], "bias": layer["offset"]}
    return variables


def perturbed(task, seed):
    """Parameters where scales, offsets and biases are not at their start."""
    normal = np.random.default_rng(seed).normal
    params = task.init((), jax.random.key(seed))
    return jax.tree.map(lambda leaf: leaf + 0.3 * jnp.float32(normal(size=leaf.shape)), params)


@pytest.mark.parametrize("shape", [(16, 8, 8, 3), (16, 7, 9, 1)])
def test_loss_and_gradient_are_those_of_the_network_in_flax(shape):
    """Also where the pooling leaves a row or column out."""
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    batch = Images(jnp.asarray(images), jnp.arange(16) % 4)
    task = convnet(batch, **SMALL)
    params = perturbed(task, 1)

    def theirs(params, batch):
        outputs, _ = Reference().apply(
            {"params": in_flax(params)}, batch.images, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(outputs, batch.labels).mean()

    actual = jax.jit(jax.value_and_grad(task.loss))(params, batch)
    expected = jax.jit(jax.value_and_grad(theirs))(params, batch)
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, 1e-3, 1e-5), actual, expected)


def test_the_papers_cifar10_network_has_22682_parameters():
    """Kernels 75 x 16 + 2 x 400 x 16 + 256 x 32 + 32 x 10, output bias 10, normalisation 2 x 80."""
    task = convnet((np.zeros((10, 32, 32, 3), np.uint8), np.arange(10)))
    params = jax.eval_shape(task.init, (), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 22_682
    assert [layer["kernel"].shape for layer in params["conv"]] == [
        (5, 5, 3, 16),
        (5, 5, 16, 16),
        (5, 5, 16, 16),
    ]
    assert [layer["kernel"].shape for layer in params["fc"]] == [(256, 32), (32, 10)]


def test_kernels_start_normal_with_variance_one_over_fan_in_and_the_rest_neutral():
    """Fan-ins 75, 25 x 40, 4 x 40 and 50; moments within 5 standard errors."""
    task = convnet(COLOURS, channels=(40, 40), hidden_sizes=(50,))
    params = task.init((), jax.random.key(0))
    layers = [*params["conv"], *params["fc"]]
    for layer, fan_in in zip(layers, (75, 1000, 160, 50), strict=True):
        z = np.float64(layer["kernel"]).ravel() * fan_in**0.5
        assert abs(z.mean()) < 5 / z.size**0.5
        assert abs((z**2).mean() - 1) < 5 * (2 / z.size) ** 0.5
    for layer in layers[:-1]:
        assert np.all(layer["scale"] == 1)
        assert not np.any(layer["offset"])
    assert not np.any(layers[-1]["bias"])


def test_a_minibatch_is_128_images_scaled_to_one():
    data = Images(jnp.full((20, 8, 8, 1), 255, jnp.uint8), jnp.arange(20))
    task = convnet(data)
    assert task.data.images.dtype == jnp.uint8
    batch = task.batch(task.data, (), jax.random.key(0))
    np.testing.assert_array_equal(batch.images, np.ones((128, 8, 8, 1), np.float32))


def test_label_subsets_share_no_image_and_are_renumbered():
    """Two tasks by specification: between them all digits, each counted from 0."""
    subsets = [(0, 2, 4, 6, 8), (9, 7, 5, 3, 1)]
    digits, parts = load_dataset("digits", "train"), []
    for labels in subsets:
        dataset = {"name": "digits", "split": "train", "labels": labels}
        task = build_task({"name": "convnet", "dataset": dataset, "channels": (4,)}, None)
        assert task.init((), jax.random.key(0))["fc"][-1]["bias"].shape == (5,)
        assert np.unique(task.data.labels).tolist() == [0, 1, 2, 3, 4]
        back = np.asarray(labels)[np.asarray(task.data.labels)]
        pairs = zip(np.asarray(task.data.images), back.tolist(), strict=True)
        parts.append({(image.tobytes(), label) for image, label in pairs})
    assert parts[0].isdisjoint(parts[1])
    pairs = zip(np.asarray(digits.images), digits.labels.tolist(), strict=True)
    assert parts[0] | parts[1] == {(image.tobytes(), label) for image, label in pairs}


@pytest.mark.parametrize("n", [12, 14, 8, 5, 1])
def test_accuracy_counts_each_image_once_in_batches_as_in_training(n):
    """Batches of 8; the last is the last 8 images, of which the new ones count."""
    images, labels = load_dataset("digits", f"test[:{n}]")
    task = convnet(load_dataset("digits", "train"), channels=(4,))
    params = perturbed(task, 0)
    predicted = np.argmax(logits(params, images[-8:]), axis=1)
    if n > 8:
        first = np.argmax(logits(params, images[:8]), axis=1)
        predicted = np.concatenate([first, predicted[8 - (n - 8) :]])
    actual = jax.jit(accuracy, static_argnames="batch_size")(params, images, labels, batch_size=8)
    np.testing.assert_allclose(actual, np.mean(predicted == np.asarray(labels)), rtol=1e-6)


def test_it_learns_digits_it_has_not_seen():
    """Chance is 0.1; 30 steps of Adam are far above."""
    task, test = convnet(load_dataset("digits", "train"), (8, 8)), load_dataset("digits", "test")
    tx = optax.adam(1e-2)

    @jax.jit
    def step(task, params, state, key):
        gradient = jax.grad(task.loss)(params, task.batch(task.data, (), key))
        updates, state = tx.update(gradient, state)
        return optax.apply_updates(params, updates), state

    params = task.init((), jax.random.key(0))
    state = tx.init(params)
    for key in jax.random.split(jax.random.key(1), 30):
        params, state = step(task, params, state, key)
    assert accuracy(params, *test) > 0.8


def test_cifar10_has_a_loss_near_chance_at_the_start():
    """Unit normal features into ten logits: near log 10, and surely within a factor of two."""
    if not (REAL / "cifar10").is_dir():
        pytest.skip(f"cifar10 is not prepared in {REAL}; set TFDS_DATA_DIR")
    task = convnet(load_dataset("cifar10", "test[:500]", data_dir=REAL), batch_size=64)
    batch = task.batch(task.data, (), jax.random.key(0))
    loss = task.loss(task.init((), jax.random.key(1)), batch)
    assert np.log(10) / 2 < loss < 2 * np.log(10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": (16, 0)}, r"channels must be positive integers.* got \(.*, 0\)"),
        ({"hidden_sizes": (2.5,)}, r"hidden_sizes must be positive integers.* got \(2\.5,\)"),
        ({"kernel_size": 0}, "kernel_size must be an integer of at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be an integer of at least 2, got 1"),
        ({"num_classes": 9}, "num_classes must be an integer of at least 10, got 9"),
        ({"dataset": (np.zeros((10, 64)), np.arange(10))}, r"at least 8 .* got \(10, 64\)"),
        ({"channels": (2,) * 4}, r"at least 16 for 4 poolings, got \(20, 8, 8, 3\)"),
        ({"dataset": (COLOURS.images, COLOURS.labels[:-1])}, "dataset must hold images"),
    ],
)
def test_refuses_with_a_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        convnet(**({"dataset": COLOURS} | arguments))


@pytest.mark.parametrize("rows", [0, 19])
def test_accuracy_refuses_no_images_and_labels_of_others(rows):
    with pytest.raises(ValueError, match=r"accuracy needs images .* n >= 1"):
        accuracy({}, COLOURS.images[:rows], COLOURS.labels[: rows + 1])
