"""VGG networks: names and shapes as torchvision's, features as an independent convolution's."""

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from l2ljax.tasks import vgg as module
from l2ljax.tasks.data import load_dataset
from l2ljax.tasks.vgg import BUNDLED, LAYOUTS, average_pool, convolutions, vgg

ROOT = Path(__file__).parents[2]


def made(layout, seed=0):
    """Random tensors in torchvision's naming, and a classifier that is of no concern."""
    random, tensors = np.random.default_rng(seed), {}
    for layer, shape in convolutions(layout).values():
        spread = 1 / np.sqrt(np.prod(shape[1:]))
        tensors[f"{layer}.weight"] = random.normal(0, spread, shape).astype(np.float32)
        tensors[f"{layer}.bias"] = random.normal(0, 0.1, shape[:1]).astype(np.float32)
    return tensors | {"classifier.0.weight": np.zeros((2, 2), np.float32)}


@pytest.fixture
def small(monkeypatch):
    """The networks' depth with few channels."""
    for name in ("vgg16", "vgg19"):
        narrow = LAYOUTS[name]._replace(channels=(2, 3, 4, 5, 6))
        monkeypatch.setitem(module.LAYOUTS, name, narrow)
    return {name: made(LAYOUTS[name]) for name in ("vgg16", "vgg19")}


@pytest.mark.parametrize(
    ("name", "numbers", "parameters"),
    [
        ("vgg16", [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28], 14_714_688),
        ("vgg19", [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34], 20_024_384),
    ],
)
def test_layers_are_torchvisions(name, numbers, parameters):
    """Its layer numbers, and its number of parameters before the classifier."""
    layers = convolutions(LAYOUTS[name])
    assert [layer for layer, _ in layers.values()] == [f"features.{n}" for n in numbers]
    assert sum(np.prod(shape) + shape[0] for _, shape in layers.values()) == parameters
    assert list(layers)[:3] == ["conv1_1", "conv1_2", "conv2_1"]
    assert list(layers)[-1] == {"vgg16": "conv5_3", "vgg19": "conv5_4"}[name]


def reference(tensors, layout, image, pooling):
    """All features, with XLA's own convolution and pooling on channels-first pictures."""
    found = {}
    x = ((image - np.array(layout.mean)) / np.array(layout.std)).transpose(2, 0, 1)[None]
    x = jnp.asarray(x, jnp.float32)
    for tap, (layer, _) in convolutions(layout).items():
        if tap.endswith("_1") and tap != "conv1_1":
            window = ((1, 1, 2, 2), (1, 1, 2, 2), "VALID")
            if pooling == "max":
                x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *window)
            else:
                x = jax.lax.reduce_window(x, 0.0, jax.lax.add, *window) / 4
        x = jax.lax.conv(x, tensors[f"{layer}.weight"], (1, 1), "SAME")
        x = jnp.maximum(x + tensors[f"{layer}.bias"][None, :, None, None], 0)
        found[tap] = x[0].transpose(1, 2, 0)
    return found


@pytest.mark.parametrize(("name", "pooling"), [("vgg16", "average"), ("vgg19", "max")])
def test_features_are_an_independent_convolutions(name, pooling, small, tmp_path):
    """At every tap, and no deeper layer is needed for a shallow one."""
    path = tmp_path / "made.safetensors"
    safetensors.numpy.save_file(small[name], path)
    extractor = vgg(name, path, pooling)
    image = np.random.default_rng(1).random((17, 20, 3))
    expected = reference(small[name], LAYOUTS[name], image, pooling)
    found = extractor(jnp.asarray(image, jnp.float32), extractor.taps)
    assert list(found) == list(expected) == list(extractor.taps)
    for tap, features in expected.items():
        np.testing.assert_allclose(found[tap], features, rtol=1e-4, atol=1e-5)
    shallow = {tap: extractor.params[tap] for tap in ("conv1_1", "conv1_2")}
    some = extractor.apply(shallow, jnp.asarray(image, jnp.float32), ("conv1_2",))
    np.testing.assert_array_equal(some["conv1_2"], found["conv1_2"])
    assert {extractor.content_tap, *extractor.style_taps} <= set(extractor.taps)


def without(name):
    return lambda tensors: {k: v for k, v in tensors.items() if k != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("features.5.weight"), "lacks features.5.weight, which 'vgg16' has"),
        (without("features.28.bias"), "lacks features.28.bias"),
        (
            lambda t: t | {"features.2.weight": t["features.2.weight"][:, :, :2]},
            r"features.2.weight in .* has shape \[2, 2, 2, 3\], 'vgg16' has \[2, 2, 3, 3\]",
        ),
        (
            lambda t: t | {"features.0.bias": np.zeros(2, np.int32)},
            "features.0.bias in .* must hold finite floats, but has dtype int32",
        ),
        (
            lambda t: t | {"features.0.bias": np.full(2, np.nan, np.float32)},
            "values that are not finite",
        ),
    ],
)
def test_wrong_files_are_refused(change, words, small, tmp_path):
    """In one sentence that names the layer."""
    path = tmp_path / "wrong.safetensors"
    safetensors.numpy.save_file(change(small["vgg16"]), path)
    with pytest.raises(ValueError, match=words) as error:
        vgg("vgg16", path)
    assert "\n" not in str(error.value)


def test_damaged_and_missing_files_are_refused(small, tmp_path):
    """Another network's file, half a file, none, and none given."""
    path = tmp_path / "file.safetensors"
    safetensors.numpy.save_file(small["vgg16"], path)
    with pytest.raises(ValueError, match=r"lacks features.\d+.weight|has shape"):
        vgg("vgg19", path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="is damaged or no safetensors file"):
        vgg("vgg16", path)
    with pytest.raises(FileNotFoundError, match="path must be a file with the weights"):
        vgg("vgg16", tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="do not come with l2ljax; give path"):
        vgg("vgg16")
    with pytest.raises(ValueError, match="name must be one of"):
        vgg("resnet")
    with pytest.raises(ValueError, match="pooling must be one of"):
        vgg(pooling="median")


def test_average_pool_leaves_odd_edges_out():
    """Against NumPy's mean over each block."""
    x = np.random.default_rng(0).random((2, 5, 4, 3)).astype(np.float32)
    expected = np.array(
        [[x[:, i : i + 2, j : j + 2].mean((1, 2)) for j in (0, 2)] for i in (0, 2)]
    ).transpose(2, 0, 1, 3)
    np.testing.assert_allclose(average_pool(jnp.asarray(x)), expected, rtol=1e-6)


def test_the_bundled_network_is_small_and_says_how_it_was_made():
    """Below 1 MB, with its accuracy."""
    assert BUNDLED.stat().st_size < 1e6
    with safetensors.safe_open(BUNDLED, framework="numpy") as file:
        metadata = {name: json.loads(text) for name, text in file.metadata().items()}
    assert "train_features.py" in metadata["command"]
    assert 0.5 < metadata["test_accuracy"] < 1
    assert "JPEG" in metadata["data"]


@pytest.mark.slow
def test_the_bundled_network_classifies_as_it_says():
    """The classifier of its file on its features: the stated accuracy, up to sampling error."""
    data_dir = Path(os.environ.get("TFDS_DATA_DIR") or ROOT.parent / "shared" / "tfds")
    if not (data_dir / "cifar10").exists():
        pytest.skip(f"There is no CIFAR-10 in {data_dir}.")
    images, labels = load_dataset("cifar10", "test[:1000]", data_dir=data_dir)
    tensors = safetensors.numpy.load_file(BUNDLED)
    extractor = vgg()
    features = jax.jit(
        lambda x: jax.lax.map(lambda i: extractor(i, ["conv3_2"])["conv3_2"].mean((0, 1)), x)
    )(images / 255.0)
    logits = features @ tensors["classifier.weight"].T + tensors["classifier.bias"]
    with safetensors.safe_open(BUNDLED, framework="numpy") as file:
        stated = json.loads(file.metadata()["test_accuracy"])
    spread = np.sqrt(stated * (1 - stated) / 1000)
    assert abs(float((logits.argmax(1) == labels).mean()) - stated) < 4 * spread
