"""Flax nnx: a small transformer reads text, by a learned optimizer and by Adam."""

from pydoc_data.topics import topics

import jax
import numpy as np
import optax
from flax import nnx

import l2ljax

STEPS, BATCH_SIZE, LENGTH, WIDTH = 200, 16, 32, 32
text = "".join(topics.values())  # Python's manual; yours: open("my.txt").read()
letters = sorted(set(text))
tokens = jax.numpy.asarray(np.searchsorted(letters, list(text)))


class Transformer(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(len(letters), WIDTH, rngs=rngs)
        self.position = nnx.Embed(LENGTH, WIDTH, rngs=rngs)
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, WIDTH, decode=False, rngs=rngs)
        self.widen = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.narrow = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, len(letters), rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens) + self.position(jax.numpy.arange(LENGTH))
        x = x + self.attention(self.norm(x), mask=nnx.make_causal_mask(tokens))
        return self.head(x + self.narrow(jax.nn.gelu(self.widen(x))))


@nnx.jit
def step(model, optimizer, starts):
    windows = tokens[starts[:, None] + jax.numpy.arange(LENGTH + 1)]

    def loss_of(model):
        logits, labels = model(windows[:, :-1]), windows[:, 1:]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, gradients = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, gradients)
    return loss


def train(tx):
    model, losses = Transformer(nnx.Rngs(0)), []
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    for key in jax.random.split(jax.random.key(1), STEPS):
        starts = jax.random.randint(key, (BATCH_SIZE,), 0, len(tokens) - LENGTH)
        losses.append(float(step(model, optimizer, starts)))
    return losses


losses = {"learned": train(l2ljax.pretrained()), "adam(1e-3)": train(optax.adam(1e-3))}
for name, values in losses.items():
    print(f"{name:10}  first {values[0]:.3f}  last 20 {sum(values[-20:]) / 20:.3f}")
