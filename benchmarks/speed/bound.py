"""What the machine can do: its matrix and tanh rates, and the least time a work could take.

The LSTM costs two things that matter, the products of its layers and its activations. Counting a
forward step of all coordinates as one of each:

- a plain update needs one product and one round of activations;
- an exact meta-update needs them twice, for the rollout and, since all activations of a window do
  not fit in a cache, once more in the backward pass, which adds two products (for the weights and
  for the inputs): 4 products and 2 rounds;
- with a share s of the coordinates visited by the backward pass: 1 + 3 s products, 1 + s rounds.

The optimizee's own cost is left out, so the bound is a little too low.
"""

import statistics
import time

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from works import Work

HIDDEN, LAYERS = 20, 2
ACTIVATIONS = 5 * HIDDEN * LAYERS  # tanh-like evaluations a coordinate and step


def flops(features: int) -> int:
    """Of the products of one coordinate's forward step; biases ride in them."""
    widths = [features] + [HIDDEN] * (LAYERS - 1)
    layers = sum(2 * 4 * HIDDEN * (width + HIDDEN + 1) for width in widths)
    return layers + 2 * (HIDDEN + 1)


def measure_rates(coordinates: int = 16_384, repeats: int = 50) -> tuple[float, float]:
    """`(flop/s, tanh/s)` of all devices together, in loops over arrays of an MNIST step's size."""
    mesh = jax.make_mesh((jax.device_count(),), ("parts",), axis_types=(AxisType.Auto,))
    weights = jax.device_put(jnp.ones((4 * HIDDEN, 2 * HIDDEN)) / 100, NamedSharding(mesh, P()))
    state = jax.device_put(
        jnp.ones((2 * HIDDEN, coordinates)), NamedSharding(mesh, P(None, "parts"))
    )

    @jax.jit
    def products(state, weights):
        return jax.lax.fori_loop(0, repeats, lambda _, x: (weights @ x)[: 2 * HIDDEN], state)

    @jax.jit
    def activations(state):
        return jax.lax.fori_loop(0, repeats, lambda _, x: jnp.tanh(x + 0.1), state)

    product_s = _median_seconds(products, state, weights)
    tanh_s = _median_seconds(activations, state)
    product_flops = 2 * 4 * HIDDEN * 2 * HIDDEN * coordinates
    return repeats * product_flops / product_s, repeats * state.size / tanh_s


def least_seconds(work: Work, rates: tuple[float, float]) -> float:
    """The bound on one step of `work`."""
    share = work.share
    products, rounds = (1, 1) if share is None else (1 + 3 * share, 1 + share)
    each = products * flops(work.features) / rates[0] + rounds * ACTIVATIONS / rates[1]
    return each * work.coordinates * work.inner_steps


def _median_seconds(function, *arguments) -> float:
    times = []
    for _ in range(9):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])
