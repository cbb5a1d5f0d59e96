"""Plain JAX: a network with a hidden layer reads digits, by a learned optimizer and by Adam."""

import jax
import jax.numpy as jnp
import optax

import l2ljax

STEPS, BATCH_SIZE = 200, 64
data = l2ljax.load_dataset("digits", "train")  # 8 x 8 pixels, with scikit-learn
images = data.images.reshape(len(data.images), -1) / 255


def init(key):
    first, second = jax.random.split(key)
    return {
        "hidden": {"kernel": jax.random.normal(first, (64, 32)) / 8, "bias": jnp.zeros(32)},
        "head": {"kernel": jax.random.normal(second, (32, 10)) / 6, "bias": jnp.zeros(10)},
    }


def loss_of(params, images, labels):
    x = jax.nn.relu(images @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    logits = x @ params["head"]["kernel"] + params["head"]["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def train(tx):
    @jax.jit
    def step(params, state, rows):
        loss, gradients = jax.value_and_grad(loss_of)(params, images[rows], data.labels[rows])
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    params = init(jax.random.key(0))
    state, losses = tx.init(params), []
    for key in jax.random.split(jax.random.key(1), STEPS):
        rows = jax.random.randint(key, (BATCH_SIZE,), 0, len(images))
        params, state, loss = step(params, state, rows)
        losses.append(float(loss))
    return losses


losses = {"learned": train(l2ljax.pretrained()), "adam(1e-3)": train(optax.adam(1e-3))}
for name, values in losses.items():
    print(f"{name:10}  first {values[0]:.3f}  last 20 {sum(values[-20:]) / 20:.3f}")
