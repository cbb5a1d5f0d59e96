"""Tasks of the suite: closed forms, sizes that were published, independent reference operations."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from l2ljax.tasks import (
    autoencoder,
    byte_model,
    factorisation,
    feature_inversion,
    image_convnet,
    image_mlp,
    implicit_field,
    oscillator,
    poisson,
    resized,
    rosenbrock,
    teacher,
    valley,
)
from l2ljax.tasks._inversion import _picture
from l2ljax.tasks.layers import strided_convolve
from l2ljax.tasks.text import invented_text

KEY = jax.random.key(0)
LABELS = jnp.arange(20) % 10


def black(size, channels):
    return jnp.zeros((20, size, size, channels), jnp.uint8), LABELS


def num_params(task):
    shapes = jax.eval_shape(task.init, (), KEY)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("task", "published"),
    [
        (image_mlp(black(8, 3), (32,)), 6_506),
        (image_mlp(black(8, 1), (32,)), 2_410),
        (image_mlp(black(28, 1)), 134_794),
        (image_mlp(black(32, 3)), 427_658),
        (image_mlp(black(32, 3), normalisation="layer"), 428_426),
        (image_mlp(black(32, 3), normalisation="batch"), 428_426),
        (image_mlp(black(32, 3), (128, 128), dropout=0.2), 411_146),
        (image_mlp(black(32, 3), (256, 256)), 855_050),
        (autoencoder(black(28, 1)), 209_968),
        (autoencoder(black(32, 3), (32, 32, 32)), 201_824),
        (image_convnet(black(16, 3)), 56_970),
        (image_convnet(black(32, 3), normalisation="batch"), 57_290),
    ],
)
def test_as_many_parameters_as_published(task, published):
    """The sizes that Metz et al.'s suite has (arXiv:2211.09760)."""
    assert num_params(task) == published


def test_kernels_start_within_two_standard_deviations_of_fan_in():
    """A normal cut at 2: its standard deviation is 0.8796 of the uncut one's."""
    kernel = image_mlp(black(28, 1), (300,)).init((), KEY)[0]["kernel"] * math.sqrt(784)
    assert np.abs(kernel).max() <= 2
    np.testing.assert_allclose(kernel.std(), 0.8796, rtol=0.01)


def test_dropout_keeps_the_mean_of_a_linear_network_and_zeroes_its_share():
    """Black images with bias 1: each hidden unit is 1 / (1 - p) with probability 1 - p, else 0."""
    task = image_mlp(black(2, 1), (4000,), dropout=0.25, batch_size=2, loss="squared")
    params = task.init((), KEY)
    params[0]["bias"] = jnp.ones(4000)
    params[1] = {"kernel": jnp.full((4000, 10), 1 / 4000), "bias": jnp.zeros(10)}
    batch = task.batch(task.data, (), KEY)._replace(labels=jnp.full(2, 11))  # no label: all zeros
    # the loss is then the mean square of (1 / 4000) sum_i unit_i, whose mean is 1
    expected, spread = 1.0, math.sqrt(1 / 3 / 4000)
    assert abs(math.sqrt(task.loss(params, batch)) - expected) < 4 * spread


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_strided_convolutions_are_xlas(size, stride):
    images, kernel = (
        jax.random.normal(KEY, (2, size, size, 3)),
        jax.random.normal(KEY, (3, 3, 3, 4)),
    )
    expected = jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(strided_convolve(images, kernel, stride), expected, atol=1e-4)


def test_resizing_a_ramp_samples_it_at_the_centres_of_pixels():
    """Bilinear interpolation is exact on a ramp: pixel i of 8 lies at (i + 1/2) 28/8 - 1/2."""
    ramp = jnp.broadcast_to(jnp.arange(28.0)[None, :, None, None], (3, 28, 28, 2))
    small = resized((ramp, jnp.arange(3)), 8, grey=True).images
    assert small.shape == (3, 8, 8, 1)
    np.testing.assert_allclose(small[0, :, 0, 0], (np.arange(8) + 0.5) * 3.5 - 0.5, rtol=1e-6)


def test_a_valley_has_its_condition_number_and_its_bottom():
    task = valley(6, 1e3)
    instance = task.sample((), KEY)
    batch = task.batch((), instance, KEY)
    curvatures = np.linalg.eigvalsh(jax.hessian(task.loss)(jnp.zeros(6), batch))
    np.testing.assert_allclose(curvatures[-1] / curvatures[0], 1e3, rtol=1e-2)
    np.testing.assert_allclose(curvatures[-1], 1.0, rtol=1e-5)
    assert task.loss(instance[1], batch) == 0


def test_noise_of_a_valley_moves_its_centre():
    """At the centre the mean loss is noise^2 / 2 times the sum of the curvatures."""
    task = valley(3, 1.0, noise=0.5)
    instance = task.sample((), KEY)

    def one(key):
        return task.loss(instance[1], task.batch((), instance, key))

    losses = jax.vmap(one)(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(losses.mean(), 0.125 * 3, rtol=0.05)


def test_rosenbrock_at_known_points():
    """(-1.2, 1): 100 (1 - 1.44)^2 + 2.2^2 = 24.2."""
    assert float(rosenbrock().loss(jnp.array([-1.2, 1.0]), ())) == pytest.approx(24.2, rel=1e-5)
    assert float(rosenbrock(5).loss(jnp.ones(5), ())) == 0


def test_factors_of_the_matrix_have_no_loss():
    task = factorisation(4, 5, 2)
    matrix = task.sample((), KEY)
    u, s, vt = np.linalg.svd(matrix)
    params = {"left": jnp.asarray(u[:, :2] * s[:2]), "right": jnp.asarray(vt[:2])}
    np.testing.assert_allclose(task.loss(params, matrix), 0, atol=1e-10)
    assert np.linalg.matrix_rank(matrix, tol=1e-4) == 2


def test_the_teacher_itself_has_no_loss():
    task = teacher(3, 4, (4,), batch_size=16)
    hidden, out = instance = task.sample((), KEY)
    student = [
        {"kernel": hidden, "bias": jnp.zeros(4)},
        {"kernel": out[:, None], "bias": jnp.zeros(1)},
    ]
    assert float(task.loss(student, task.batch((), instance, KEY))) < 1e-10


def test_poisson_asks_for_the_second_derivative():
    """A network that is 0 has the mean square of f, in units of pi^4, as its loss."""
    task = poisson((4,), 4000)
    zero = jax.tree.map(jnp.zeros_like, task.init((), KEY))
    instance = jnp.array([1.0, 0.5, 0.0, 0.0])
    loss = task.loss(zero, task.batch((), instance, KEY))
    # mean of (pi^2 a_1 sin(pi x) + 4 pi^2 a_2 sin(2 pi x))^2 / pi^4 = (a_1^2 + 16 a_2^2) / 2
    np.testing.assert_allclose(loss, (1 + 16 * 0.25) / 2, rtol=0.06)


def test_an_oscillator_that_rests_or_leaves_on_a_line():
    """Of u = 1 the residual is 1; of u = 1 + s t it is 2 z s / w + 1 + s t, and u'(0) is s."""
    task, small, s, (w, z) = oscillator((1,), 4000, boundary=3.0), 1e-2, 0.5, (8.0, 0.25)

    def of(kernel):
        layers = [
            {"kernel": jnp.full((1, 1), small), "bias": jnp.zeros(1)},
            {"kernel": jnp.full((1, 1), kernel), "bias": jnp.ones(1)},
        ]
        return task.loss(layers, task.batch((), jnp.array([w, z]), KEY))

    np.testing.assert_allclose(of(0.0), 1.0, rtol=1e-5)
    a = 1 + 2 * z * s / w
    expected = a * a + a * s + s * s / 3 + 3 * (s / w) ** 2
    np.testing.assert_allclose(of(s / small), expected, rtol=0.02)


def test_an_oscillator_swings_as_the_closed_form_says():
    """u = exp(-z w t) (cos v t + z w / v sin v t), v^2 = w^2 (1 - z^2), fitted by least squares on
    random units: what is left of its loss is what the fit leaves."""
    w, z = 7.0, 0.2
    v = w * np.sqrt(1 - z * z)
    keys = jax.random.split(KEY, 2)
    kernel, bias = 12 * jax.random.normal(keys[0], (1, 200)), 6 * jax.random.normal(keys[1], (200,))
    t = np.linspace(0.0, 1.0, 400)
    swing = np.exp(-z * w * t) * (np.cos(v * t) + z * w / v * np.sin(v * t))
    units = np.tanh(t[:, None] * np.asarray(kernel, float) + np.asarray(bias, float))
    out = np.linalg.lstsq(np.c_[units, np.ones(400)], swing, rcond=1e-6)[0]
    layers = [
        {"kernel": kernel, "bias": bias},
        {"kernel": jnp.asarray(out[:-1, None]), "bias": jnp.asarray(out[-1:])},
    ]
    task = oscillator((200,), 400)
    assert task.loss(layers, task.batch((), jnp.array([w, z]), KEY)) < 1e-3
    assert task.loss(layers, task.batch((), jnp.array([1.3 * w, z]), KEY)) > 0.02


def test_pictures_of_fields_fill_the_range():
    picture = implicit_field(16, (4,), 2).sample((), KEY)
    assert (picture.min(), picture.max()) == (0, 1)


def test_a_black_picture_has_no_features_and_no_neighbours_that_differ():
    """Without a bias every feature is 0, which is 1 off; scaled alike, features scale with it."""
    task = feature_inversion(8, (4, 3), smoothness=2.0)
    kernels, wanted = task.sample((), KEY)
    dark = jnp.zeros((8, 8, 3))
    np.testing.assert_allclose(task.loss(dark, (kernels, wanted)), 1.0, rtol=1e-5)
    stripes = jnp.zeros((8, 8, 3)).at[::2].set(1.0)
    differences = task.loss(stripes, (kernels, wanted)) - feature_inversion(
        8, (4, 3), smoothness=1.0
    ).loss(stripes, (kernels, wanted))
    np.testing.assert_allclose(differences, 1.0, rtol=1e-4)
    doubled = [2 * kernels[0], kernels[1]]
    losses = [task.loss(stripes, (k, w)) for k, w in ((kernels, wanted), (doubled, 2 * wanted))]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_the_picture_itself_is_off_by_its_unsmoothness_alone():
    task = feature_inversion(8, (4,), smoothness=0.5)
    key, start = jax.random.split(KEY)
    instance = task.sample((), key)
    picture = _picture(jax.random.split(key, 2)[0], 8)
    down, right = jnp.diff(picture, axis=0), jnp.diff(picture, axis=1)
    expected = 0.5 * (jnp.mean(down**2) + jnp.mean(right**2))
    np.testing.assert_allclose(task.loss(picture, instance), expected, rtol=1e-5)
    assert (picture.min(), picture.max()) == (0, 1)
    assert task.loss(task.init(instance, start), instance) > 10 * expected


def test_invented_text_has_something_to_learn():
    """The same bytes from the same seed, however many; pairs of letters tell more than letters."""
    text = invented_text(50_000)
    np.testing.assert_array_equal(text[:1000], invented_text(1000))
    assert not np.array_equal(text[:1000], invented_text(1000, seed=1))
    counts = np.zeros((128, 128))
    np.add.at(counts, (text[:-1], text[1:]), 1)
    pairs = counts / counts.sum()
    single = pairs.sum(1)
    entropy_single = -(single[single > 0] * np.log(single[single > 0])).sum()
    entropy_pairs = -(pairs[pairs > 0] * np.log(pairs[pairs > 0])).sum()
    assert entropy_pairs - entropy_single < 0.75 * entropy_single


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_language_models_do_not_see_what_they_predict(kind):
    """Whatever the last byte is, what is before it is predicted alike: probabilities add up."""
    task = byte_model(kind, 8, 1, 5, 1)
    params = task.init((), KEY)
    batch = task.batch(task.data, (), KEY)
    last = jnp.arange(int(task.data.max()) + 1)
    totals = jax.jit(jax.vmap(lambda b: 5 * task.loss(params, batch.at[:, -1].set(b))))(last)
    prefix = _loss_of_prefix(kind, params, batch)
    np.testing.assert_allclose(jnp.exp(-(totals - prefix)).sum(), 1.0, rtol=1e-4)


def _loss_of_prefix(kind, params, batch):
    """The summed loss of all but the last byte, from a model of one byte less."""
    if kind == "transformer":
        params = {**params, "positions": params["positions"][:4]}
    return 4 * jax.jit(byte_model(kind, 8, 1, 4, 1).loss)(params, batch[:, :-1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: image_mlp(black(4, 1), dropout=1.0), "dropout"),
        (lambda: image_mlp(black(4, 1), normalisation="group"), "normalisation"),
        (lambda: image_mlp(black(4, 1), normalisation="batch", batch_size=1), "at least 2, got 1"),
        (lambda: byte_model("lstm"), "kind"),
        (lambda: byte_model(text="ab", sequence=8), "text must have more"),
        (lambda: valley(1), "dim"),
        (lambda: valley(3, 0.5), "condition"),
        (lambda: resized((jnp.zeros((2, 4)), jnp.arange(2)), 2), "height"),
    ],
)
def test_what_no_task_takes_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
