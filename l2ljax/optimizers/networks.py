"""The network inside the coordinatewise optimizer: an LSTM for *one* coordinate.

Andrychowicz et al. (2016), section 2.1: every coordinate has its own state and all share the same
weights. `CoordinatewiseLSTM` is written for one coordinate, in operations that treat any further
trailing axes as more coordinates. So it can be applied to a whole parameter at once, which gives
what `jax.vmap` over the parameter's axes gives (hidden axis first), one matrix product a layer.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from l2ljax.checks import check_choice, check_float_dtype, check_number, check_sizes, short
from l2ljax.optimizers.fused_layer import fused_layer
from l2ljax.optimizers.preprocess import Preprocess, log_sign

Kernel = Literal["plain", "pallas", "interpreted"]
"""What a layer's step is computed by, see `CoordinatewiseLSTM`."""


class LSTMCarry(NamedTuple):
    """One layer's state: `[hidden]` each for one coordinate, `[hidden, *shape]` for a parameter.

    Attributes:
        hidden: h, what the layer gives, in (-1, 1); float `[hidden, *shape]`.
        cell: c, what it remembers; float `[hidden, *shape]`.

    Example:
        >>> carry = LSTMCarry(hidden=jnp.zeros((20, 3, 2)), cell=jnp.zeros((20, 3, 2)))
        >>> [part.shape for part in carry]  # 20 units for each of 3 x 2 coordinates
        [(20, 3, 2), (20, 3, 2)]
    """

    hidden: jax.Array
    cell: jax.Array


@jax.custom_jvp
def lstm_cell(gates: jax.Array, cell: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What an LSTM does to its gates, coordinate by coordinate (Hochreiter & Schmidhuber 1997).

    c' = sigmoid(f) c + sigmoid(i) tanh(z) and h' = sigmoid(o) tanh(c'). The derivative is written
    out, so that a backward pass keeps six factors a unit and nothing else; what automatic
    differentiation would keep instead takes it a fifth longer (docs/performance.md).

    Args:
        gates: `[4 * hidden, *shape]`: i, f, z and o before their activations.
        cell: `[hidden, *shape]`.

    Returns:
        h' and c', each `[hidden, *shape]`.

    Example:
        >>> hidden, cell = lstm_cell(jnp.zeros((4, 1)), jnp.full((1, 1), 2.0))
        >>> float(cell[0, 0])  # half remembered, nothing new
        1.0
    """
    *_, output_gate, next_cell, squashed = _activations(gates, cell)
    return output_gate * squashed, next_cell


@lstm_cell.defjvp
def _lstm_cell_jvp(primals, tangents):
    (gates, cell), (d_gates, d_cell) = primals, tangents
    i, f, z, o, next_cell, squashed = _activations(gates, cell)
    d_i, d_f, d_z, d_o = jnp.split(d_gates, 4)
    d_next = f * d_cell + (cell * f * (1 - f)) * d_f
    d_next += (z * i * (1 - i)) * d_i + (i * (1 - z * z)) * d_z
    d_hidden = (squashed * o * (1 - o)) * d_o + (o * (1 - squashed * squashed)) * d_next
    return (o * squashed, next_cell), (d_hidden, d_next)


def _activations(gates: jax.Array, cell: jax.Array) -> tuple[jax.Array, ...]:
    """The four gates after their activations, the next cell, and its tanh."""
    i, f, z, o = jnp.split(gates, 4)
    i, f, z, o = _logistic(i), _logistic(f), jnp.tanh(z), _logistic(o)
    next_cell = f * cell + i * z
    return i, f, z, o, next_cell, jnp.tanh(next_cell)


def _logistic(x: jax.Array) -> jax.Array:
    # On CPU a tanh takes less time than the exponential and the division of nn.sigmoid.
    return 0.5 * jnp.tanh(0.5 * x) + 0.5


class CoordinatewiseLSTM(nn.Module):
    """A stacked LSTM that maps one coordinate's gradient to its update.

    flax's own cells add no offset to the forget gate; this one does (`forget_bias`), because a cell
    that starts out remembering is what lets the optimizer learn momentum early (Jozefowicz et
    al. 2015). The offset is not a parameter: it is added to the learned bias.

    Attributes:
        hidden_sizes: units of each LSTM layer; the paper uses (20, 20).
        preprocess: gradient -> features, e.g. `l2ljax.log_sign(10.0)`.
        output_scale: the output is multiplied by this, so that a fresh network makes small steps.
        forget_bias: constant added to the forget gate.
        dtype: what the network computes in, whatever the gradient's.
        state_dtype: what its state is held in between steps; `None`: `dtype`. bfloat16 halves the
            memory of the state.
        kernel: "plain" is JAX's operations; "pallas" one kernel a layer, on NVIDIA GPUs and TPUs
            (`l2ljax.optimizers.fused_layer`; nobody has timed it yet, see docs/gpu.md), for float32
            and bfloat16; "interpreted" is that kernel step by step, slow, on any platform.
            The weights are the same.

    Raises:
        ValueError: for sizes, numbers or dtypes out of range, an unknown `kernel`, or one that does
            not compute in `dtype`.

    Example:
        >>> network = CoordinatewiseLSTM(hidden_sizes=(3,))
        >>> carry, gradient = network.initial_carry(), jnp.float32(1.0)
        >>> meta_params = jax.jit(network.init)(jax.random.key(0), carry, gradient)
        >>> carry, update = jax.jit(network.apply)(meta_params, carry, gradient)
        >>> update.shape, [layer.hidden.shape for layer in carry]
        ((), [(3,)])
    """

    hidden_sizes: Sequence[int] = (20, 20)
    preprocess: Preprocess = log_sign(10.0)
    output_scale: float = 0.1
    forget_bias: float = 1.0
    dtype: jax.typing.DTypeLike = jnp.float32
    state_dtype: jax.typing.DTypeLike | None = None
    kernel: Kernel = "plain"

    def __post_init__(self):
        # a tuple, as a list would make the module unhashable
        self.hidden_sizes = check_sizes("hidden_sizes", self.hidden_sizes)
        if not callable(self.preprocess) or not hasattr(self.preprocess, "num_features"):
            raise ValueError(
                f"preprocess must be log_sign(p) or identity(), got {short(self.preprocess)}."
            )
        check_number("output_scale", self.output_scale)
        check_number("forget_bias", self.forget_bias)
        check_float_dtype("dtype", self.dtype)
        if self.state_dtype is not None:
            check_float_dtype("state_dtype", self.state_dtype)
        check_choice("kernel", self.kernel, get_args(Kernel))
        if self.kernel != "plain" and jnp.dtype(self.dtype) not in (jnp.float32, jnp.bfloat16):
            raise ValueError(
                f"kernel={self.kernel!r} computes in float32 or bfloat16, got dtype="
                f"{jnp.dtype(self.dtype).name}; use kernel='plain'."
            )
        super().__post_init__()

    @nn.nowrap
    def apply(self, *args: Any, method: Any = None, **options: Any) -> Any:
        """flax's `apply`, of `step`: `apply(meta_params, carry, gradient)`.

        The module itself cannot be called, or `optax.inject_hyperparams` took it for a schedule.
        """
        return super().apply(*args, method=method or type(self).step, **options)

    @nn.nowrap
    def init_with_output(self, *args: Any, method: Any = None, **options: Any) -> Any:
        """flax's `init_with_output`, which `init` calls, of `step`."""
        return super().init_with_output(*args, method=method or type(self).step, **options)

    @nn.compact
    def step(
        self, carry: tuple[LSTMCarry, ...], gradient: jax.Array
    ) -> tuple[tuple[LSTMCarry, ...], jax.Array]:
        """One step, inside `apply`, `init` or another module.

        Args:
            carry: one `LSTMCarry` a layer, `[hidden, *shape]`.
            gradient: `[*shape]` [nabla_t]; a scalar for one coordinate.

        Returns:
            the next carry and the additive update, `[*shape]` of `dtype`.
        """
        inputs = self.preprocess(jnp.asarray(gradient, self.dtype))
        one = jnp.ones_like(inputs[:1])
        next_carry = []
        for layer, (size, (hidden, cell)) in enumerate(zip(self.hidden_sizes, carry, strict=True)):
            hidden, cell = hidden.astype(self.dtype), cell.astype(self.dtype)
            fan_in = inputs.shape[0] + size
            kernel = self.param(
                f"kernel_{layer}",
                nn.initializers.lecun_normal(in_axis=1, out_axis=0),
                (4 * size, fan_in),
            )
            bias = self.param(f"bias_{layer}", nn.initializers.zeros, (4 * size,))
            forget = jnp.asarray(self.forget_bias, bias.dtype)  # which may be a float64 array
            bias = bias.at[size : 2 * size].add(forget)
            # The bias as one more column: the matrix product adds it, in no pass of its own.
            weights = jnp.concatenate([kernel, bias[:, None]], axis=1).astype(self.dtype)
            if self.kernel == "plain":
                gates = jnp.tensordot(weights, jnp.concatenate([inputs, hidden, one]), axes=1)
                inputs, cell = lstm_cell(gates, cell)
            else:
                interpret = self.kernel == "interpreted"
                inputs, cell = fused_layer(weights, inputs, hidden, cell, interpret=interpret)
            held = self.state_dtype or self.dtype
            next_carry.append(LSTMCarry(inputs.astype(held), cell.astype(held)))
        readout = self.param("readout", nn.initializers.normal(0.01), (inputs.shape[0],))
        offset = self.param("readout_bias", nn.initializers.zeros, ())
        update = jnp.tensordot(readout.astype(self.dtype), inputs, axes=1)
        update += offset.astype(self.dtype)
        return tuple(next_carry), jnp.asarray(self.output_scale, self.dtype) * update

    def initial_carry(self) -> tuple[LSTMCarry, ...]:
        """All-zero state of one coordinate: per layer two `[hidden]` arrays."""
        held = self.state_dtype or self.dtype
        return tuple(
            LSTMCarry(jnp.zeros(size, held), jnp.zeros(size, held)) for size in self.hidden_sizes
        )
