"""Celo2 (2026): a network of 347 weights proposes a direction, which is made orthogonal.

Its authors' code is https://github.com/amoudgl/celo. The features are those of Metz et al. (2022,
arXiv:2203.11860), the network's output has no say in the length of a step: every tensor moves by
the learning rate, root mean square.
"""

import functools
from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import LearnedOptimizer, MetaParams
from l2ljax.checks import (
    check_choice,
    check_kind,
    check_like,
    check_number,
    check_sizes,
)
from l2ljax.optimizers.alone import tensors_alone
from l2ljax.optimizers.block_size import BlockSize, checked_block_size
from l2ljax.optimizers.features import rms_normalized
from l2ljax.optimizers.newton_schulz import newton_schulz
from l2ljax.optimizers.roots import root
from l2ljax.optimizers.signs import negated
from l2ljax.optimizers.tensor_network import (
    Network,
    apply_network,
    init_layers,
)
from l2ljax.optimizers.tensors import Decays, MomentsState, scale_by_rule
from l2ljax.specification import specified

GROUPS = {
    "gradient": 1,
    "clipped_gradient": 1,
    "param": 1,
    "momentum": 3,
    "second_moment": 1,
    "momentum_over_root": 3,
    "one_over_root": 1,
    "factored_gradient": 3,
    "gradient_over_root": 1,
    "row": 3,
    "column": 3,
    "row_rsqrt": 3,
    "column_rsqrt": 3,
    "factored_momentum": 3,
}
"""Features of a coordinate, in the order of the first kernel."""

VECTOR_GROUPS = {name: GROUPS[name] for name in list(GROUPS)[:9]}
"""Those of vectors and scalars."""

DECAYS = Decays((0.9, 0.99, 0.999), (0.95,), (0.9, 0.99, 0.999))

CLIP = 1000.0
"""Largest size of a gradient's entry."""

Vectors = Literal["adam", "network"]
"""What serves vectors and scalars, see `celo2`."""


@specified("celo2")
def celo2(
    hidden_sizes: Sequence[int] = (8, 8),
    learning_rate: float = 0.01,
    orthogonalize: bool = True,
    vectors: Vectors = "adam",
    vector_factor: float = 1.0,
    block_size: BlockSize = "default",
) -> LearnedOptimizer:
    """Steps of one root mean square for each tensor, in a learned direction.

    Thirty features of a coordinate, each divided by its root mean square over the last two axes
    (mean square + 1e-9): g, g clipped to 0.1, theta, m (decays .9, .99, .999), v (.95), m / sqrt(v
    + 1e-8), 1 / sqrt(v + 1e-8), Adafactor's g over its estimate of sqrt(v) (.9, .99, .999), g /
    sqrt(v + 1e-8), its row and column averages r and c, 1 / sqrt(r + 1e-8), 1 / sqrt(c + 1e-8), and
    Adafactor's m over sqrt(v). A network 30-8-8-3 with relu makes of them a direction o_0, then

        theta <- theta - learning_rate o / rms(o),        o = NewtonSchulz(o_0)

    over the last two axes. g is clipped to 1,000 first. Factored are the two *largest* axes (ties
    in the order of a stable sort). It reads `params` and each tensor as a whole, so it is not
    coordinatewise; tensors are alone, so the recorded backward pass serves it by `tensor_groups`.
    The meta-gradient goes through the parameters that later steps read.

    An update takes 2 (30 H + H^2 + 3 H) operations in the network and some 100 besides, 760 a
    coordinate with H = 8; Newton-Schulz takes 10 (4 k + 2 k^2 / n) more for a matrix with k the
    shorter and n the longer side. The state takes 16 bytes a parameter of a matrix (and what its
    rows and columns need) and 28 of a vector. Temporaries are about one float32 a parameter without
    Newton-Schulz.

    Args:
        hidden_sizes: units of each hidden layer.
        learning_rate: the root mean square of a tensor's step. The authors use schedules; then
            take `scale_by_celo2`.
        orthogonalize: the Newton-Schulz iteration, for tensors of two and more axes.
        vectors: what serves vectors and scalars: "adam", as the authors' own training had it (b1
            = .9, b2 = .95), or "network", by which each moves the learning rate, root mean square;
            of the features they have the first fifteen.
        vector_factor: on `learning_rate`, for vectors and scalars that Adam serves.
        block_size: coordinates of one tensor that the network serves at once; `None`: all.

    Returns:
        a `LearnedOptimizer` with meta-parameters `{"params": {"kernel_0": [H, 30], "bias_0": [H],
        ..., "kernel_2": [3, H], "bias_2": [3]}}`; of the three outputs only the first is used.

    Raises:
        ValueError: for an argument that is not of these kinds, naming it; from `update`, if it is
            given no `params`.
        TypeError: if `orthogonalize` is no bool.

    Example:
        >>> optimizer = celo2(learning_rate=0.01)
        >>> meta_params = optimizer.init(jax.random.key(0))
        >>> sum(leaf.size for leaf in jax.tree.leaves(meta_params))
        347
        >>> tx, params = optimizer.transform(meta_params), jnp.eye(3)
        >>> updates, state = tx.update(params, tx.init(params), params)
        >>> bool(jnp.allclose(jnp.mean(updates**2) ** 0.5, 0.01, rtol=1e-3))
        True
    """
    sizes = check_sizes("hidden_sizes", hidden_sizes)
    check_number("learning_rate", learning_rate)
    check_number("vector_factor", vector_factor)
    block_size = checked_block_size(block_size)
    _check_options(orthogonalize, vectors)

    def transform(meta_params: MetaParams) -> optax.GradientTransformationExtraArgs:
        return negated(
            _celo2(
                meta_params,
                sizes,
                orthogonalize,
                vectors,
                block_size,
                learning_rate,
                learning_rate * vector_factor,
            )
        )

    return LearnedOptimizer(
        init=functools.partial(_init, sizes),
        transform=transform,
        tensor_groups=tensors_alone(transform),
    )


def scale_by_celo2(
    meta_params: MetaParams,
    hidden_sizes: Sequence[int] = (8, 8),
    orthogonalize: bool = True,
    vectors: Vectors = "network",
    block_size: BlockSize = "default",
) -> optax.GradientTransformationExtraArgs:
    """Replaces gradients by Celo2's steps of size one, signed as Optax's.

    As in the authors' function of this name the network serves every tensor it is given. They give
    it matrices, with `optax.add_decayed_weights(0.1)` and `optax.scale_by_learning_rate(schedule)`
    behind it, and the rest to `optax.adamw(schedule, 0.9, 0.95)`, by `optax.partition`.

    Args:
        meta_params: what `celo2(...).init` returns.
        hidden_sizes: this and the other arguments are those of `celo2`.
        orthogonalize: as there.
        vectors: as there.
        block_size: as there; "default" is its default.

    Returns:
        an Optax transformation with a `MomentsState`; it needs `params`, and ignores unknown extra
        arguments.

    Raises:
        ValueError: if `meta_params` does not fit, or for an argument of another kind.
        TypeError: if `orthogonalize` is no bool; from `init` and `update`, if a leaf is not of a
            real floating dtype.

    Example:
        >>> meta_params = celo2().init(jax.random.key(0))
        >>> tx = optax.chain(scale_by_celo2(meta_params), optax.scale_by_learning_rate(0.01))
        >>> updates, _ = tx.update(jnp.eye(3), tx.init(jnp.eye(3)), jnp.eye(3))
        >>> updates.shape
        (3, 3)
    """
    sizes = check_sizes("hidden_sizes", hidden_sizes)
    block_size = checked_block_size(block_size)
    _check_options(orthogonalize, vectors)
    return _celo2(meta_params, sizes, orthogonalize, vectors, block_size, 1.0, 1.0)


def _celo2(
    meta_params: MetaParams,
    sizes: tuple[int, ...],
    orthogonalize: bool,
    vectors: Vectors,
    block_size: BlockSize,
    rate: float,
    vector_rate: float,
) -> optax.GradientTransformationExtraArgs:
    check_like(
        jax.eval_shape(functools.partial(_init, sizes), jax.random.key(0)),
        meta_params,
        "meta_params",
        f"they must come from init of celo2(hidden_sizes={sizes})",
    )

    def rule(count, gradient, param, moments):
        if gradient.ndim < 2 and vectors == "adam":
            return vector_rate * _adam(count, moments)
        axes = tuple(range(max(0, gradient.ndim - 2), gradient.ndim))
        network = Network(
            params=meta_params["params"],
            groups=GROUPS if gradient.ndim > 1 else VECTOR_GROUPS,
            root_eps=1e-8,
            eps=1e-9,
            vector_eps=0.0,
            clip=CLIP,
        )
        step = apply_network(
            network, gradient, param, moments, axes, lambda outputs: outputs[0], block_size
        )
        if orthogonalize and gradient.ndim > 1:
            step = newton_schulz(step)
        return rate * rms_normalized(step, axes, 1e-9)

    return scale_by_rule(rule, DECAYS, "scale_by_celo2", CLIP)


def _adam(count: jax.Array, moments: MomentsState) -> jax.Array:
    """Adam's direction, from the first of the momenta (decay .9) and v (.95)."""
    steps = count.astype(jnp.float32) + 1
    momentum = moments.momentum[0] / (1 - 0.9**steps)
    second_moment = moments.second_moment[0] / (1 - 0.95**steps)
    return momentum / (root(second_moment) + 1e-8)


def _init(sizes: tuple[int, ...], key: jax.Array) -> MetaParams:
    return {"params": init_layers((sum(GROUPS.values()), *sizes, 3), key)}


def _check_options(orthogonalize, vectors) -> None:
    check_kind("orthogonalize", orthogonalize, bool)
    check_choice("vectors", vectors, get_args(Vectors))
