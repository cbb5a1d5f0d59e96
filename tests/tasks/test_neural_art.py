"""The loss of a painting against NumPy, and whose pictures are taken."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from l2ljax.tasks import neural_art
from l2ljax.tasks._neural_art import gram, relative_error, total_variation
from l2ljax.tasks.features import Extractor
from l2ljax.tasks.pictures import load_picture, resize_square
from l2ljax.tasks.vgg import vgg


def random_picture(seed, *shape):
    return np.random.default_rng(seed).random((*shape, 3)).astype(np.float32)


def mixer():
    """Two taps: mixed colours, and their squares at every second pixel."""

    def apply(params, image, taps):
        mixed = image @ params
        return {tap: {"mixed": mixed, "squared": mixed[::2, ::2] ** 2}[tap] for tap in taps}

    matrix = jnp.asarray(np.random.default_rng(9).normal(size=(3, 4)), jnp.float32)
    return Extractor(matrix, apply, ("mixed", "squared"), "squared", ("mixed", "squared"))


def test_gram_is_the_mean_outer_product():
    """Position by position, in NumPy; repeating the texture changes nothing."""
    features = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    expected = np.mean([np.outer(f, f) for f in features.reshape(-1, 3)], axis=0)
    np.testing.assert_allclose(gram(jnp.asarray(features)), expected, rtol=1e-5, atol=1e-6)
    twice = np.concatenate([features, features], axis=1)
    np.testing.assert_allclose(gram(jnp.asarray(twice)), expected, rtol=1e-5, atol=1e-6)


def test_total_variation_of_a_slope():
    """A plane a i + b j has the squared differences a^2 and b^2; noise against a NumPy loop."""
    i, j = np.mgrid[:5, :7].astype(np.float32)
    plane = (0.5 * i - 0.25 * j)[:, :, None].repeat(3, axis=2)
    np.testing.assert_allclose(total_variation(jnp.asarray(plane)), 0.25 + 0.0625, rtol=1e-6)
    x = random_picture(1, 4, 6)
    down = np.mean([(x[i + 1, j] - x[i, j]) ** 2 for i in range(3) for j in range(6)])
    right = np.mean([(x[i, j + 1] - x[i, j]) ** 2 for i in range(4) for j in range(5)])
    np.testing.assert_allclose(total_variation(jnp.asarray(x)), down + right, rtol=1e-5)


def test_the_loss_is_its_formula():
    """In NumPy, each of its parts alone and all together, on uint8 and float pictures."""
    content = (255 * random_picture(2, 1, 6, 8)).astype(np.uint8)
    style, pixels = random_picture(3, 5, 5), random_picture(4, 6, 8)
    extractor = mixer()
    matrix = np.asarray(extractor.params)

    def features(picture):
        mixed = picture.astype(np.float64) @ matrix
        return {"mixed": mixed, "squared": mixed[::2, ::2] ** 2}

    def grams(picture):
        rows = {tap: f.reshape(-1, 4) for tap, f in features(picture).items()}
        return {tap: r.T @ r / len(r) for tap, r in rows.items()}

    def unlike(a, b):
        return ((a - b) ** 2).sum() / (b**2).sum()

    found, wanted = features(pixels), features(content[0] / 255)
    parts = {
        "content_weight": unlike(found["squared"], wanted["squared"]),
        "style_weight": np.mean(
            [unlike(grams(pixels)[tap], grams(style)[tap]) for tap in ("mixed", "squared")]
        ),
        "smoothness": (np.diff(pixels, axis=0) ** 2).mean() + (np.diff(pixels, axis=1) ** 2).mean(),
    }
    everything = {"content_weight": 2.0, "style_weight": 3.0, "smoothness": 5.0}
    alone = [dict.fromkeys(parts, 0.0) | {name: 1.5} for name in parts]
    for weights in (*alone, everything):
        task = neural_art(content, style, extractor=extractor, **weights)
        instance = task.sample(task.data, jax.random.key(0))
        batch = task.batch(task.data, instance, jax.random.key(1))
        expected = sum(weights[name] * parts[name] for name in parts)
        np.testing.assert_allclose(task.loss(jnp.asarray(pixels), batch), expected, rtol=1e-4)


def test_the_photograph_in_its_own_style_has_no_loss():
    """With the bundled network; and relative_error of itself is 0, of nothing 1."""
    photograph = random_picture(5, 16, 16)
    task = neural_art(photograph[None], photograph, smoothness=0.0)
    instance = task.sample(task.data, jax.random.key(0))
    batch = task.batch(task.data, instance, jax.random.key(1))
    value, slope = jax.value_and_grad(task.loss)(jnp.asarray(photograph), batch)
    np.testing.assert_allclose(value, 0, atol=1e-9)
    np.testing.assert_allclose(slope, 0, atol=1e-6)
    assert float(relative_error(jnp.zeros(3), jnp.ones(3))) == 1


def test_pictures_start_as_grey_noise_and_photographs_vary():
    """Mean 0.5; every photograph is drawn."""
    flat = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((4, 32, 32, 3), np.uint8)
    task = neural_art(flat, flat[0], extractor=mixer(), content_tap="mixed")
    pixels = task.init((), jax.random.key(0))
    np.testing.assert_allclose(pixels.mean(), 0.5, atol=0.01)
    np.testing.assert_allclose(pixels.std(), 0.1, atol=0.01)
    keys = jax.random.split(jax.random.key(1), 64)
    firsts = jax.vmap(lambda key: task.sample(task.data, key))(keys)[:, 0, 0, 0]
    assert len(set(firsts.tolist())) == 4


def test_pictures_come_from_names_files_and_directories(tmp_path):
    """The same task from a name and from arrays; a user's own pictures."""
    whole = np.asarray(resize_square(load_picture("cat"), 16))
    brick = resize_square(load_picture("brick"), 16)
    named = neural_art(["cat"], "brick", size=16, num_crops=1, extractor=mixer())
    given = neural_art(whole[None], brick, extractor=mixer())
    chex.assert_trees_all_equal(named.data, given.data)
    Image.fromarray(whole).save(tmp_path / "mine.png")
    own = neural_art(tmp_path, tmp_path / "mine.png", size=16, num_crops=1, extractor=mixer())
    np.testing.assert_array_equal(own.data.contents, whole[None])
    assert neural_art("test", size=16, num_crops=2, extractor=mixer()).data.contents.shape[0] == 6


def test_extractors_by_name_and_by_arguments():
    """The bundled network either way; its own taps unless others are given."""
    content, style = random_picture(6, 1, 16, 16), random_picture(7, 16, 16)
    tasks = [neural_art(content, style, extractor=e) for e in ("cifar10", {"name": "cifar10"})]
    assert list(tasks[0].data.grams) == list(vgg().style_taps)
    chex.assert_trees_all_equal(tasks[0].data, tasks[1].data)
    other = neural_art(content, style, style_taps=("conv1_2",), content_tap="conv3_1")
    assert other.data.grams["conv1_2"].shape == (16, 16)
    assert other.sample(other.data, jax.random.key(0)).shape == (4, 4, 64)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"content": np.zeros((2, 8, 8))}, r"content must be \[n, height, width, 3\].*\(2, 8, 8\)"),
        ({"content": np.zeros((0, 8, 8, 3))}, "content must be"),
        ({"content": np.zeros((1, 8, 8, 3), np.int32)}, "uint8 or float, got .* int32"),
        ({"style": np.zeros((8, 8, 1))}, r"style must be \[height, width, 3\]"),
        ({"content_tap": "conv9_9"}, "has no tap 'conv9_9'; there are mixed, squared"),
        ({"style_taps": ("fc",)}, "has no tap 'fc'"),
        ({"style_weight": -1.0}, "style_weight must be 0 or more"),
        ({"smoothness": float("nan")}, "smoothness must be a finite number"),
        ({"content_weight": 0, "style_weight": 0, "smoothness": 0}, "All weights .* are 0"),
        ({"extractor": "resnet"}, "Unknown extractor 'resnet'; there are cifar10, vgg16, vgg19"),
        ({"extractor": {"name": "vgg19"}}, "do not come with l2ljax"),
        ({"extractor": {"name": "cifar10", "depth": 3}}, "unexpected keyword argument 'depth'"),
        ({"extractor": 3}, "extractor must be an Extractor"),
        (
            {"extractor": "cifar10", "content": np.zeros((1, 1, 1, 3))},
            "1 x 1 pixels has none left at the tap",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, words):
    """Each in one sentence."""
    good = {"content": np.ones((1, 8, 8, 3)), "style": np.ones((8, 8, 3)), "extractor": mixer()}
    with pytest.raises(ValueError, match=words):
        neural_art(**good | arguments)


def test_a_picture_that_is_not_there_is_named_with_its_argument():
    """Content and style alike."""
    good = {"content": np.ones((1, 8, 8, 3)), "style": np.ones((8, 8, 3)), "extractor": mixer()}
    for argument, source in {"content": ["cats"], "style": "cats"}.items():
        with pytest.raises(FileNotFoundError, match=f"{argument}: There is no picture 'cats'"):
            neural_art(**good | {argument: source})
