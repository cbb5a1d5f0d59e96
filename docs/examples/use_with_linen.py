"""Flax linen: a convolutional network reads digits, by a learned optimizer and by Adam."""

import flax.linen as nn
import jax
import optax
from flax.training.train_state import TrainState

import l2ljax

STEPS, BATCH_SIZE = 200, 64
data = l2ljax.load_dataset("digits", "train")  # 8 x 8 pixels, with scikit-learn
images = data.images / 255


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3), strides=2)(x))
        x = nn.relu(nn.Conv(16, (3, 3), strides=2)(x))
        return nn.Dense(10)(x.reshape(len(x), -1))


def train(tx):
    @jax.jit
    def step(state, rows):
        def loss_of(params):
            logits = state.apply_fn(params, images[rows])
            labels = data.labels[rows]
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        loss, gradients = jax.value_and_grad(loss_of)(state.params)
        return state.apply_gradients(grads=gradients), loss

    model, losses = Net(), []
    params = model.init(jax.random.key(0), images[:1])
    state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)
    for key in jax.random.split(jax.random.key(1), STEPS):
        state, loss = step(state, jax.random.randint(key, (BATCH_SIZE,), 0, len(images)))
        losses.append(float(loss))
    return losses


losses = {"learned": train(l2ljax.pretrained()), "adam(1e-3)": train(optax.adam(1e-3))}
for name, values in losses.items():
    print(f"{name:10}  first {values[0]:.3f}  last 20 {sum(values[-20:]) / 20:.3f}")
