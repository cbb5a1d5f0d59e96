"""A trusted step with a learned size: Adam's direction, and a small network for each tensor.

Harrison et al. (2022), arXiv:2209.11208, keep a nominal (Adam-like) term in a learned optimizer so
that it is stable by construction. Here that term is all there is: for each tensor a small network
sees statistics without a scale of its own, and says how long the step is and how several normalised
momenta are mixed into its direction,

    m_k = EMA(g, b_k),  v = EMA(g^2, b_2),  n_k = m_k / (sqrt(v) + eps),  n_0 = g / (sqrt(v) + eps)
    u = -exp(rate + span * tanh(a)) * clip(sum_k softmax(z)_k n_k, -limit, limit)
    (a, z) = network(statistics of the tensor)

both moments corrected for their start at 0. So no coordinate ever moves further in one step than
exp(rate + span) * limit, nor does its factor differ from Adam's constant rate exp(rate) by more
than exp(span): whatever the meta-parameters are. There is no learning rate to tune and, without
`num_steps`, no horizon to give.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import Key, LearnedOptimizer, MetaParams, PyTree
from l2ljax.checks import (
    check_like,
    check_number,
    check_positive_int,
    check_real_floating,
    check_sizes,
)
from l2ljax.optimizers.alone import tensors_alone
from l2ljax.optimizers.signs import negated
from l2ljax.specification import specified

DECAYS = (0.5, 0.9, 0.99)
SECOND_DECAY = 0.999
EPSILON = 1e-8
TIMES = (3.0, 30.0, 300.0, 3_000.0, 30_000.0)
"""Steps around which the network can tell early from late."""

NUM_FEATURES = 2 * len(DECAYS) + 6 + len(TIMES)
HORIZON_FEATURES = 3
"""Three more where `num_steps` is given."""


class Options(NamedTuple):
    """What bounds the step, see `nominal`."""

    num_steps: int | None
    rate: float
    span: float
    limit: float


class ScaleByNominalState(NamedTuple):
    """State of `scale_by_nominal`: four float32 numbers a parameter.

    Attributes:
        count: int32 scalar, updates made so far (it stops at the largest int32).
        momenta: one tree like the parameters for each of `DECAYS`, float32.
        second: tree like the parameters, float32.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    momenta: tuple[PyTree, ...]
    second: PyTree


def scale_by_nominal(
    meta_params: MetaParams,
    *,
    num_steps: int | None = None,
    rate: float = -5.0,
    span: float = 4.0,
    limit: float = 5.0,
) -> optax.GradientTransformationExtraArgs:
    """Replaces gradients by trusted steps of learned size, in Optax's sign.

    To be followed by `optax.scale_by_learning_rate(1.0)`; `l2ljax.optimizers.nominal` is complete.

    Args:
        meta_params: of `nominal(...).init`.
        num_steps: length of the training, if the meta-parameters were trained with it.
        rate: natural logarithm of the step size around which the network moves it.
        span: by how much its logarithm can differ.
        limit: largest size of a direction's coordinate.

    Returns:
        an Optax transformation that needs `params` in `update`; other extra arguments are ignored.

    Raises:
        ValueError: if `meta_params` do not fit, or `update` gets no `params`.
        TypeError: from `init` and `update`, for leaves that are not of a real floating dtype.

    Example:
        >>> meta_params = nominal().init(jax.random.key(0))
        >>> tx = optax.chain(scale_by_nominal(meta_params), optax.scale_by_learning_rate(1.0))
        >>> params = {"w": jnp.ones((3, 2))}
        >>> updates, state = tx.update({"w": jnp.full((3, 2), 7.0)}, tx.init(params), params)
        >>> bool((updates["w"] < 0).all())
        True
    """
    options = _checked(num_steps, rate, span, limit)
    features = NUM_FEATURES + HORIZON_FEATURES * (num_steps is not None)
    sizes = [layer["bias"].shape[0] for layer in meta_params["layers"]]
    check_like(
        jax.eval_shape(functools.partial(_init_layers, (features, *sizes)), jax.random.key(0)),
        meta_params["layers"],
        "meta_params",
        "they must come from nominal(...).init with the same num_steps (given or not)",
    )

    def init(params: PyTree) -> ScaleByNominalState:
        check_real_floating(params, "parameter")
        # each with buffers of its own, so that the state can be donated
        *momenta, second = [
            optax.tree.zeros_like(params, dtype=jnp.float32) for _ in range(len(DECAYS) + 1)
        ]
        return ScaleByNominalState(jnp.zeros([], jnp.int32), tuple(momenta), second)

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByNominalState]:
        del extra_args
        if params is None:
            if jax.tree.leaves(updates):
                raise ValueError(
                    "scale_by_nominal reads the parameters: call update(gradients, state, params)."
                )
            params = updates
        check_real_floating(updates, "gradient")
        gradients = optax.tree.cast(updates, jnp.float32)
        count = jnp.asarray(optax.safe_increment(state.count))
        momenta = tuple(
            optax.tree.update_moment(gradients, tree, decay, 1)
            for decay, tree in zip(DECAYS, state.momenta, strict=True)
        )
        second = optax.tree.update_moment(gradients, state.second, SECOND_DECAY, 2)
        steps = jax.tree.map(
            lambda g, p, v, *m: _step(meta_params, options, count, g, p, v, m),
            updates,
            params,
            second,
            *momenta,
        )
        return steps, ScaleByNominalState(count, momenta, second)

    return optax.GradientTransformationExtraArgs(init, update)


def _step(meta_params, options, count, gradient, param, second, momenta):
    """The step of one tensor, in Optax's sign and the gradient's dtype."""
    gradient, dtype = jnp.asarray(gradient, jnp.float32), jnp.result_type(gradient)
    if gradient.size == 0:
        return gradient.astype(dtype)
    t = count.astype(jnp.float32)
    root = jnp.sqrt(second / (1 - SECOND_DECAY**t)) + EPSILON
    normalised = [m / (1 - b**t) / root for b, m in zip(DECAYS, momenta, strict=True)]
    normalised.append(gradient / root)
    x = _features(gradient, jnp.asarray(param, jnp.float32), normalised, t, options.num_steps)
    for layer in meta_params["layers"][:-1]:
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
    last = meta_params["layers"][-1]
    size, *mixture = x @ last["kernel"] + last["bias"]
    shares = jax.nn.softmax(jnp.stack(mixture))
    direction = sum(share * n for share, n in zip(shares, normalised, strict=True))
    step_size = jnp.exp(options.rate + options.span * jnp.tanh(size))
    return (step_size * jnp.clip(direction, -options.limit, options.limit)).astype(dtype)


def _features(gradient, param, normalised, t, num_steps):
    """What the network sees of one tensor: `[NUM_FEATURES (+ HORIZON_FEATURES)]`, of order 1."""

    def power(x):
        return jnp.mean(jnp.square(x))

    def logarithm(x):
        return jnp.log(x + 1e-8) / 4

    *momenta, now = normalised
    signal = [logarithm(power(n)) for n in momenta]
    # How well the gradient agrees with where the momenta lead: below 0 the steps overshoot.
    agreement = [
        jnp.mean(now * n) / jnp.sqrt((power(now) + 1e-12) * (power(n) + 1e-12)) for n in momenta
    ]
    fan_in = gradient.size / gradient.shape[-1] if gradient.ndim > 1 else 1
    shape = [
        jnp.log(jnp.sqrt(power(param)) + 1e-3) / 3,
        jnp.float32(math.log(fan_in) / 4),
        jnp.float32(math.log(gradient.size) / 8),
        jnp.float32(gradient.ndim > 1),
        jnp.float32(gradient.ndim > 2),
    ]
    times = [jnp.tanh(jnp.log(t / tau)) for tau in TIMES]
    if num_steps is not None:
        done = t / num_steps
        times += [done, jnp.tanh(10 * (done - 0.8)), jnp.log(1.02 - jnp.minimum(done, 1.0)) / 4]
    return jnp.stack([*signal, logarithm(power(now)), *agreement, *shape, *times])


@specified("nominal")
def nominal(
    hidden_sizes: Sequence[int] = (24, 24),
    num_steps: int | None = None,
    rate: float = -5.0,
    span: float = 4.0,
    limit: float = 5.0,
) -> LearnedOptimizer:
    """Adam's normalised direction, with a step size and a mixture of momenta from a small network.

    State: 16 bytes a parameter (four float32 numbers). An update costs about twice Adam's
    operations: the network runs once a tensor, not once a parameter. It reads `params` (their root
    mean square), each tensor by itself, so the recorded backward pass serves it by `tensor_groups`;
    the meta-gradient goes through the sizes of the parameters that later steps read.

    Args:
        hidden_sizes: units of the network's layers.
        num_steps: length of the training, so that steps can die down towards its end; `None`: no
            horizon is known.
        rate: natural logarithm of the step size around which the network moves it.
        span: by how much its logarithm can differ from `rate`, above 0.
        limit: largest size of a direction's coordinate.

    Returns:
        a `LearnedOptimizer`, close to Adam at exp(rate) when fresh; its meta-parameters are
        `{"layers": [{"kernel": [in, out], "bias": [out]}, ...]}`.

    Raises:
        ValueError: for arguments that are not of these kinds.

    Example:
        >>> optimizer = nominal((8,))
        >>> meta_params = optimizer.init(jax.random.key(0))
        >>> meta_params["layers"][0]["kernel"].shape
        (17, 8)
    """
    options = _checked(num_steps, rate, span, limit)
    features = NUM_FEATURES + HORIZON_FEATURES * (num_steps is not None)
    sizes = (features, *check_sizes("hidden_sizes", hidden_sizes), 2 + len(DECAYS))

    def init(key: Key) -> MetaParams:
        return {"layers": _init_layers(sizes, key)}

    def transform(meta_params: MetaParams) -> optax.GradientTransformationExtraArgs:
        return negated(scale_by_nominal(meta_params, **options._asdict()))

    return LearnedOptimizer(init, transform, tensor_groups=tensors_alone(transform))


def _init_layers(sizes: Sequence[int], key: Key) -> list[dict[str, jax.Array]]:
    """Fan-in scaled kernels; the last layer starts so small that the rule starts close to Adam."""
    keys = jax.random.split(key, len(sizes) - 1)
    layers = [
        {"kernel": jax.random.normal(k, (m, n)) / math.sqrt(m), "bias": jnp.zeros(n)}
        for k, (m, n) in zip(keys, itertools.pairwise(sizes), strict=True)
    ]
    layers[-1]["kernel"] *= 0.01
    # softmax([0, 4, 0, 0]) has 0.95 on the momentum of decay 0.9
    layers[-1]["bias"] = layers[-1]["bias"].at[1 + DECAYS.index(0.9)].set(4.0)
    return layers


def _checked(num_steps: Any, rate: Any, span: Any, limit: Any) -> Options:
    if num_steps is not None:
        check_positive_int("num_steps", num_steps)
    check_number("rate", rate)
    check_number("span", span, above=0)
    check_number("limit", limit, above=0)
    return Options(num_steps, rate, span, limit)
