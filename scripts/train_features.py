"""Trains the small network whose features the task neural_art uses by default, on CIFAR-10.

    python scripts/train_features.py --output=cifar10.safetensors

The file is in torchvision's naming, as `l2ljax.tasks.vgg` reads it: batch normalisation is folded
into the convolutions, and the classifier stands beside them. Its metadata say how it was made and
how many test images it classifies rightly.
"""

import functools
import json
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors.numpy
from _common import one_sentence_errors, run, set_up
from absl import flags
from flax import linen as nn

from l2ljax import load_dataset
from l2ljax.experiments import hardware
from l2ljax.tasks.vgg import LAYOUTS, convolutions, vgg

OUTPUT = flags.DEFINE_string("output", None, "A .safetensors file.", required=True)
EPOCHS = flags.DEFINE_integer("epochs", 2, "Passes over the training images.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch_size", 128, "Images a step.", lower_bound=2)
RATE = flags.DEFINE_float("learning_rate", 0.1, "At its peak; cosine decay to 0.")
SEED = flags.DEFINE_integer("seed", 0, "Of everything random.")
DATASET = flags.DEFINE_string("dataset", "cifar10", "As load_dataset's name.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS finds its data sets.")
NOTE = flags.DEFINE_string("note", "CIFAR-10 as prepared in data_dir", "What the data are.")
LAYOUT = LAYOUTS["cifar10"]


class Classifier(nn.Module):
    """The layout's convolutions, batch-normalised, then a mean over positions and 10 logits."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = (images.astype(jnp.float32) / 255 - LAYOUT.mean[0]) / LAYOUT.std[0]
        for block, (count, channels) in enumerate(
            zip(LAYOUT.convolutions, LAYOUT.channels, strict=True), start=1
        ):
            if block > 1:
                x = nn.avg_pool(x, (2, 2), (2, 2))
            for nth in range(1, count + 1):
                x = nn.Conv(channels, (3, 3), use_bias=False, name=f"conv{block}_{nth}")(x)
                norm = nn.BatchNorm(not train, momentum=0.95, name=f"norm{block}_{nth}")
                x = nn.relu(norm(x))
        return nn.Dense(10, name="out")(x.mean(axis=(1, 2)))


def fold(variables: Mapping) -> dict[str, np.ndarray]:
    """The file's tensors: each convolution with the normalisation after it."""
    params, tensors = variables["params"], {}
    for tap, (layer, _) in convolutions(LAYOUT).items():
        norm, seen = (variables[v][tap.replace("conv", "norm")] for v in ("params", "batch_stats"))
        gain = np.asarray(norm["scale"] / np.sqrt(seen["var"] + 1e-5))
        kernel = np.asarray(params[tap]["kernel"]) * gain
        tensors[f"{layer}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        tensors[f"{layer}.bias"] = np.asarray(norm["bias"] - seen["mean"] * gain)
    tensors["classifier.weight"] = np.ascontiguousarray(np.asarray(params["out"]["kernel"]).T)
    return tensors | {"classifier.bias": np.asarray(params["out"]["bias"])}


def accuracy(path: str, images: jax.Array, labels: jax.Array) -> float:
    """The share that the file's network classifies rightly, read as the task reads it."""
    extractor, last = vgg("cifar10", path), tuple(convolutions(LAYOUT))[-1]
    tensors = safetensors.numpy.load_file(path)

    def right(image, label):
        features = extractor(image / 255.0, [last])[last].mean(axis=(0, 1))
        logits = tensors["classifier.weight"] @ features + tensors["classifier.bias"]
        return logits.argmax() == label

    each = jax.jit(lambda i, t: jax.lax.map(lambda a: right(*a), (i, t), batch_size=100))
    return float(each(images, labels).mean())


@functools.partial(jax.jit, static_argnums=0)
def train_step(tx, variables, opt_state, images, labels, key):
    """One step on mirrored and shifted images."""
    flip_key, shift_key = jax.random.split(key)
    flip = jax.random.bernoulli(flip_key, shape=labels.shape)
    images = jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)
    padded = jnp.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)))
    at = jax.random.randint(shift_key, (len(labels), 2), 0, 7)
    cut = lambda image, a: jax.lax.dynamic_slice(image, (a[0], a[1], 0), (32, 32, 3))  # noqa: E731
    images = jax.vmap(cut)(padded, at)

    def loss(params):
        logits, changed = Classifier().apply(
            variables | {"params": params}, images, train=True, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), changed

    (value, changed), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    updates, opt_state = tx.update(gradients, opt_state, variables["params"])
    params = optax.apply_updates(variables["params"], updates)
    return {"params": params, **changed}, opt_state, value


def main(argv: list[str]) -> None:
    del argv
    set_up()
    path, started = str(OUTPUT.value), time.perf_counter()
    with one_sentence_errors():
        train, test = (
            load_dataset(DATASET.value, s, None, DATA_DIR.value) for s in ("train", "test")
        )
    steps = len(train.labels) // BATCH.value
    rate = optax.cosine_onecycle_schedule(EPOCHS.value * steps, RATE.value, pct_start=0.2)
    tx = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(rate, 0.9, nesterov=True))
    key = jax.random.key(SEED.value)
    variables = Classifier().init(key, train.images[:2], train=False)
    opt_state = tx.init(variables["params"])
    order, rows = np.random.default_rng(SEED.value), np.zeros((0, BATCH.value), np.int64)
    for step in range(EPOCHS.value * steps):
        if step % steps == 0:
            rows = order.permutation(len(train.labels))[: steps * BATCH.value].reshape(steps, -1)
        chosen = rows[step % steps]
        batch = (train.images[chosen], train.labels[chosen], jax.random.fold_in(key, step))
        variables, opt_state, loss = train_step(tx, variables, opt_state, *batch)
        if step % 50 == 0:
            passed = time.perf_counter() - started
            print(f"step {step} of {EPOCHS.value * steps}: loss {loss:.3f}, {passed:.0f} s")
    tensors = fold(variables)
    safetensors.numpy.save_file(tensors, path)
    made = {
        "command": shlex.join(["python", *sys.argv]).replace(path, Path(path).name),
        "seconds": round(time.perf_counter() - started, 1),
        "hardware": hardware(),
        "test_accuracy": round(accuracy(path, *test), 4),
        "data": NOTE.value,
    }
    texts = {name: json.dumps(value) for name, value in made.items()}
    Path(path).write_bytes(safetensors.numpy.save(tensors, metadata=texts))
    print(
        f"Wrote {path} ({Path(path).stat().st_size / 1024:.0f} KiB), {made['test_accuracy']=:.3f}"
    )


if __name__ == "__main__":
    run(main)
