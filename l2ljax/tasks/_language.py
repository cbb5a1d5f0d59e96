"""Language models of bytes: a recurrent network and a transformer, predicting the next byte."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from l2ljax.base import Batch, Instance, Key, Params, PyTree, Task
from l2ljax.checks import check_choice, check_positive_int, short
from l2ljax.tasks.rotations import orthogonal
from l2ljax.tasks.text import invented_text


def byte_model(
    kind: str = "transformer",
    width: int = 64,
    layers: int = 2,
    sequence: int = 32,
    batch_size: int = 16,
    text: Any = None,
) -> Task:
    """Predict each byte of a text from those before it.

    "gru" embeds bytes in `width` numbers, runs `layers` gated recurrent units of that width (Cho et
    al. 2014) and reads out linearly. "transformer" adds learned positions and has `layers` blocks
    of causal attention (four heads, or one if `width` is no multiple of four) and a gelu layer four
    times as wide, both behind layer normalisation (Xiong et al. 2020, arXiv:2002.04745).
    Initialisations are flax's.

    Args:
        kind: "gru" or "transformer".
        width: of the embedding and of each layer.
        layers: how many.
        sequence: bytes that are predicted in each example.
        batch_size: examples in a step, cut from random places of the text.
        text: bytes, a string, or a uint8 array; default: `l2ljax.tasks.text.invented_text()`.

    Returns:
        a `Task` whose params are flax variables' `"params"` and whose loss is the mean
        cross-entropy, in nats a byte.

    Raises:
        ValueError: for an unknown kind, sizes that are no positive integers, or a text that is too
            short.

    Example:
        >>> task = byte_model("gru", width=8, layers=1, sequence=4, batch_size=2)
        >>> params = task.init((), jax.random.key(0))
        >>> batch = task.batch(task.data, (), jax.random.key(1))
        >>> batch.shape, float(task.loss(params, batch)) > 0
        ((2, 5), True)
    """
    check_choice("kind", kind, ["gru", "transformer"])
    for name, size in {"width": width, "layers": layers, "sequence": sequence}.items():
        check_positive_int(name, size)
    check_positive_int("batch_size", batch_size)
    data = _as_bytes(text)
    if data.shape[0] <= sequence + 1:
        raise ValueError(
            f"text must have more than sequence + 1 = {sequence + 1} bytes, got {data.shape[0]}."
        )
    # Only the bytes that occur get an output; the others would never be predicted.
    symbols, data = jnp.unique(data, return_inverse=True)
    vocabulary = symbols.shape[0]
    model = (
        _Recurrent(vocabulary, width, layers)
        if kind == "gru"
        else _Transformer(vocabulary, width, layers, sequence)
    )

    def init(instance: Instance, key: Key) -> Params:
        del instance
        return model.init(key, jnp.zeros((1, sequence), jnp.int32))["params"]

    def batch(data: PyTree, instance: Instance, key: Key) -> Batch:
        del instance
        starts = jax.random.randint(key, (batch_size, 1), 0, data.shape[0] - sequence)
        return data[starts + jnp.arange(sequence + 1)].astype(jnp.int32)

    def loss(params: Params, batch: Batch) -> jax.Array:
        logits: Any = model.apply({"params": params}, batch[:, :-1])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:])
        return losses.mean()

    return Task(init=init, loss=loss, batch=batch, data=data.astype(jnp.uint8))


def _as_bytes(text: Any) -> jax.Array:
    if text is None:
        return jnp.asarray(invented_text())
    if isinstance(text, str):
        text = text.encode()
    if isinstance(text, bytes):
        return jnp.frombuffer(text, jnp.uint8)
    array = jnp.asarray(text)
    if array.ndim != 1 or array.dtype != jnp.uint8:
        raise ValueError(f"text must be a string, bytes or uint8 [n], got {short(text)}.")
    return array


class _Recurrent(nn.Module):
    vocabulary: int
    width: int
    layers: int

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        x: Any = nn.Embed(self.vocabulary, self.width)(tokens)
        for _ in range(self.layers):
            x = nn.RNN(nn.GRUCell(self.width, recurrent_kernel_init=orthogonal))(x)
        return nn.Dense(self.vocabulary)(x)


class _Transformer(nn.Module):
    vocabulary: int
    width: int
    layers: int
    sequence: int

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = nn.Embed(self.vocabulary, self.width)(tokens)
        x += self.param("positions", nn.initializers.normal(0.02), (self.sequence, self.width))
        mask = nn.make_causal_mask(tokens)
        heads = 4 if self.width % 4 == 0 else 1
        for _ in range(self.layers):
            x += nn.MultiHeadDotProductAttention(heads)(nn.LayerNorm()(x), mask=mask)
            hidden = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x)))
            x += nn.Dense(self.width)(hidden)
        return nn.Dense(self.vocabulary)(nn.LayerNorm()(x))
