"""Equinox: a convolutional network reads digits, by a learned optimizer and by Adam."""

import equinox as eqx
import jax
import optax

import l2ljax

STEPS, BATCH_SIZE = 200, 64
data = l2ljax.load_dataset("digits", "train")  # 8 x 8 pixels, with scikit-learn
images = data.images.transpose(0, 3, 1, 2) / 255  # channels first


def network(key):
    keys = jax.random.split(key, 3)
    return eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(1, 8, 3, stride=2, padding=1, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Conv2d(8, 16, 3, stride=2, padding=1, key=keys[1]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Lambda(jax.numpy.ravel),
            eqx.nn.Linear(64, 10, key=keys[2]),
        ]
    )


def loss_of(model, images, labels):
    logits = jax.vmap(model)(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def train(tx):
    @eqx.filter_jit
    def step(model, state, rows):
        batch = images[rows], data.labels[rows]
        loss, gradients = eqx.filter_value_and_grad(loss_of)(model, *batch)
        updates, state = tx.update(gradients, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, loss

    model = network(jax.random.key(0))
    state, losses = tx.init(eqx.filter(model, eqx.is_inexact_array)), []
    for key in jax.random.split(jax.random.key(1), STEPS):
        rows = jax.random.randint(key, (BATCH_SIZE,), 0, len(images))
        model, state, loss = step(model, state, rows)
        losses.append(float(loss))
    return losses


losses = {"learned": train(l2ljax.pretrained()), "adam(1e-3)": train(optax.adam(1e-3))}
for name, values in losses.items():
    print(f"{name:10}  first {values[0]:.3f}  last 20 {sum(values[-20:]) / 20:.3f}")
