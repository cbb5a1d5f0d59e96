"""The small fully connected optimizer of Metz et al. (2022), with Adafactor's features.

"Practical tradeoffs between memory, compute, and performance in learned optimizers",
arXiv:2203.11860, section 4; known as small_fc_lopt and AdafacMLPLOpt.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import LearnedOptimizer, MetaParams
from l2ljax.checks import check_like, check_number, check_sizes
from l2ljax.optimizers.alone import tensors_alone
from l2ljax.optimizers.block_size import BlockSize, checked_block_size
from l2ljax.optimizers.features import TIME_SCALES, time_features
from l2ljax.optimizers.scalars import in_float32
from l2ljax.optimizers.signs import negated
from l2ljax.optimizers.tensor_network import (
    Network,
    apply_network,
    init_layers,
)
from l2ljax.optimizers.tensors import Decays, scale_by_rule
from l2ljax.specification import specified

GROUPS = {
    "gradient": 1,
    "param": 1,
    "momentum": 3,
    "second_moment": 1,
    "momentum_over_root": 3,
    "one_over_root": 1,
    "factored_gradient": 3,
    "row": 3,
    "column": 3,
    "row_rsqrt": 3,
    "column_rsqrt": 3,
    "factored_momentum": 3,
}
"""Features of a coordinate, in the order of the first kernel; eleven of time follow."""

INITIAL_DECAYS = Decays((0.9, 0.99, 0.999), (0.999,), (0.9, 0.99, 0.999))


@specified("small_fc")
def small_fc(
    hidden_sizes: Sequence[int] = (32, 32),
    step_scale: float = 1e-3,
    exp_scale: float = 1e-3,
    block_size: BlockSize = "default",
) -> LearnedOptimizer:
    """A network of 39 features of each coordinate: theta <- theta - s o_0 exp(e o_1).

    Features, each divided by its root mean square over the tensor (mean square + 1e-5): g, theta,
    m (decays .9, .99, .999), v (.999), m / sqrt(v + 1e-6), 1 / sqrt(v + 1e-6), Adafactor's g and m
    over its estimate of sqrt(v) (.9, .99, .999), its row and column averages r and c, and 1 /
    sqrt(r + 1e-8), 1 / sqrt(c + 1e-8); and tanh(t / tau - 1) for eleven tau from 1 to 100,000. The
    decays are meta-parameters too: 1 - (1 - d) exp(10 x) with x = 0 at first.

    It reads `params` and each tensor as a whole, so it is not coordinatewise; tensors are alone, so
    the recorded backward pass serves it by `tensor_groups`. The meta-gradient goes through the
    parameters that later steps read. An update takes 2 (39 H + H^2 + 2 H) operations in the network
    and some 100 besides, 4,700 a coordinate with H = 32, and 460 with hidden_sizes=(4, 4); the
    state takes 16 bytes a parameter of a matrix (and what its rows and columns need) and 28 of a
    vector. Temporaries are about one float32 a parameter.

    Args:
        hidden_sizes: units of each hidden layer: (32, 32) in the paper, (4, 4) at its fastest.
        step_scale: s.
        exp_scale: e.
        block_size: coordinates of one tensor that the network serves at once; `None`: all.

    Returns:
        a `LearnedOptimizer` with meta-parameters `{"params": {"kernel_0": [H, 39], "bias_0": [H],
        ..., "kernel_2": [2, H], "bias_2": [2]}, "momentum_decays": [3], "rms_decays": [1],
        "adafactor_decays": [3]}`.

    Raises:
        ValueError: for an argument that is not of these kinds, naming it; from `update`, if it is
            given no `params`.

    Example:
        >>> optimizer = small_fc((4, 4))
        >>> meta_params = optimizer.init(jax.random.key(0))
        >>> sum(leaf.size for leaf in jax.tree.leaves(meta_params))
        197
        >>> tx, params = optimizer.transform(meta_params), jnp.ones((3, 2))
        >>> updates, state = tx.update(params, tx.init(params), params)
        >>> updates.shape
        (3, 2)
    """
    sizes = check_sizes("hidden_sizes", hidden_sizes)
    block_size = checked_block_size(block_size)
    _check_options(step_scale, exp_scale)

    def transform(meta_params: MetaParams) -> optax.GradientTransformationExtraArgs:
        return negated(scale_by_small_fc(meta_params, sizes, step_scale, exp_scale, block_size))

    return LearnedOptimizer(
        init=functools.partial(_init, sizes),
        transform=transform,
        tensor_groups=tensors_alone(transform),
    )


def scale_by_small_fc(
    meta_params: MetaParams,
    hidden_sizes: Sequence[int] = (32, 32),
    step_scale: float | jax.Array = 1e-3,
    exp_scale: float | jax.Array = 1e-3,
    block_size: BlockSize = "default",
) -> optax.GradientTransformationExtraArgs:
    """Replaces gradients by small_fc's steps, signed as Optax's: to be followed by a learning rate.

    Args:
        meta_params: what `small_fc(...).init` returns.
        hidden_sizes: this and the other arguments are those of `small_fc`.
        step_scale: as there, or a float scalar array (`optax.inject_hyperparams`).
        exp_scale: likewise, a scalar.
        block_size: as there; "default" is its default.

    Returns:
        an Optax transformation with a `MomentsState`; it needs `params`, and ignores unknown extra
        arguments.

    Raises:
        ValueError: if `meta_params` does not fit, or for an argument of another kind.
        TypeError: from `init` and `update`, if a leaf is not of a real floating dtype.

    Example:
        >>> meta_params = small_fc().init(jax.random.key(0))
        >>> tx = optax.chain(scale_by_small_fc(meta_params), optax.scale_by_learning_rate(1.0))
        >>> updates, _ = tx.update(jnp.ones(3), tx.init(jnp.ones(3)), jnp.ones(3))
        >>> updates.shape
        (3,)
    """
    sizes = check_sizes("hidden_sizes", hidden_sizes)
    block_size = checked_block_size(block_size)
    _check_options(step_scale, exp_scale)
    check_like(
        jax.eval_shape(functools.partial(_init, sizes), jax.random.key(0)),
        meta_params,
        "meta_params",
        f"they must come from init of small_fc(hidden_sizes={sizes})",
    )
    step_scale, exp_scale = in_float32(step_scale), in_float32(exp_scale)
    momentum, second, factored = (
        1
        - jnp.exp(
            10 * meta_params[name] + jnp.asarray([math.log1p(-d) for d in initial], jnp.float32)
        )
        for name, initial in zip(_DECAY_NAMES, INITIAL_DECAYS, strict=True)
    )
    decays = Decays(momentum, jnp.clip(second, 0, 1), jnp.clip(factored, 0, 1))

    def rule(count, gradient, param, moments):
        network = Network(
            params=meta_params["params"],
            groups=GROUPS,
            root_eps=1e-6,
            eps=1e-5,
            vector_eps=1e-6,
            constant=time_features(count),
        )

        def output(o: jax.Array) -> jax.Array:
            return step_scale * o[0] * jnp.exp(exp_scale * o[1])

        axes = tuple(range(gradient.ndim))
        return apply_network(network, gradient, param, moments, axes, output, block_size)

    return scale_by_rule(rule, decays, "scale_by_small_fc")


_DECAY_NAMES = ("momentum_decays", "rms_decays", "adafactor_decays")


def _init(sizes: tuple[int, ...], key: jax.Array) -> MetaParams:
    inputs = sum(GROUPS.values()) + len(TIME_SCALES)
    decays = {
        name: jnp.zeros(len(initial), jnp.float32)  # pyright: ignore[reportArgumentType]
        for name, initial in zip(_DECAY_NAMES, INITIAL_DECAYS, strict=True)
    }
    return {"params": init_layers((inputs, *sizes, 2), key), **decays}


def _check_options(step_scale, exp_scale) -> None:
    check_number("step_scale", step_scale)
    check_number("exp_scale", exp_scale)
