"""A trusted step with a learned size: Adam's direction, and a small network for each tensor.

Harrison et al. (2022), arXiv:2209.11208, keep a nominal (Adam-like) term in a learned optimizer so
that it is stable by construction. Here that term is all there is: for each tensor a small network
sees statistics without a scale of their own, and says how long the step is and how several
normalised momenta are mixed into its direction,

    m_k = EMA(g, b_k),  v = EMA(g^2, b_2),  n_k = m_k / (sqrt(v) + eps),  n_0 = g / (sqrt(v) + eps)
    u = -exp(rate + span * tanh(a + d)) * clip(sum_k softmax(z)_k n_k, -limit, limit)
    (a, z, e) = network(statistics of the tensor),  d <- LEAK d + GAIN tanh(e)

both moments corrected for their start at 0. Where other `directions` are asked for, the sum is one
of several that the network mixes in the same way. The drift d, starting at 0, lets a size that
proves too small or too large be corrected step by step. So no coordinate ever moves further in one
step than exp(rate + span) * limit, nor does its factor differ from Adam's constant rate exp(rate)
by more than exp(span): whatever the meta-parameters are. There is no learning rate to tune and,
without `num_steps`, no horizon to give.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import Key, LearnedOptimizer, MetaParams, PyTree
from l2ljax.checks import check_like, check_real_floating, check_sizes
from l2ljax.optimizers.nominal_directions import (
    DECAYS,
    SECOND_DECAY,
    mixed,
    normalised_by_element,
)
from l2ljax.optimizers.nominal_network import init_layers, network, outputs, part_now
from l2ljax.optimizers.nominal_noise import calmed
from l2ljax.optimizers.nominal_options import checked, layer_sizes
from l2ljax.optimizers.nominal_skip import skipping_nonfinite
from l2ljax.optimizers.nominal_state import ScaleByNominalState, fresh_state
from l2ljax.optimizers.nominal_statistics import tensor_table
from l2ljax.optimizers.scalars import in_float32
from l2ljax.optimizers.signs import negated
from l2ljax.optimizers.transform import NonFinite
from l2ljax.optimizers.update_inputs import check_update_inputs
from l2ljax.specification import specified

LEAK, GAIN = 0.99, 0.03
"""Of the drift, which stays within GAIN / (1 - LEAK) = 3 of 0."""


def scale_by_nominal(
    meta_params: MetaParams,
    *,
    num_steps: int | None = None,
    rest_after: int | None = None,
    rate: float = -6.0,
    span: float = 7.0,
    limit: float = 5.0,
    directions: Sequence[str] = (),
    averaged: bool = False,
    from_start: bool = False,
    alone: bool = False,
    noise_limit: float | None = None,
    nonfinite: NonFinite = "propagate",
) -> optax.GradientTransformationExtraArgs:
    """Replaces gradients by trusted steps of learned size, in Optax's sign.

    To be followed by `optax.scale_by_learning_rate(1.0)`; `l2ljax.optimizers.nominal` is complete.

    Args:
        meta_params: of `nominal(...).init`.
        num_steps: length of the training, if the meta-parameters were trained with it. An extra
            argument `num_steps` of `update` takes its place, which may be an array, or infinity.
        rest_after, noise_limit: see `nominal`.
        rate: natural logarithm of the step size around which the network moves it.
        span: by how much its logarithm can differ.
        limit: largest size of a direction's coordinate.
        directions, averaged, from_start, alone, nonfinite: see `nominal`.

    Returns:
        an Optax transformation that needs `params` in `update`; extra arguments beside `num_steps`
        are ignored.

    Raises:
        ValueError: if `meta_params` do not fit, for numbers and names that are not of these kinds,
            or if `update` gets no `params`.
        TypeError: if `averaged`, `from_start` or `alone` is no bool; from `init` and `update`, for
            leaves that are not of a real floating dtype.

    Example:
        >>> meta_params = nominal().init(jax.random.key(0))
        >>> tx = optax.chain(scale_by_nominal(meta_params), optax.scale_by_learning_rate(1.0))
        >>> params = {"w": jnp.ones((3, 2))}
        >>> updates, state = tx.update({"w": jnp.full((3, 2), 7.0)}, tx.init(params), params)
        >>> bool((updates["w"] < 0).all())
        True
    """
    further = rate, span, limit, directions, averaged, from_start, alone, noise_limit, nonfinite
    options = _in_float32(checked(num_steps, rest_after, *further))
    meta_params = _checked_meta_params(options, meta_params)

    def init(params: PyTree) -> ScaleByNominalState:
        check_real_floating(params, "parameter")
        return fresh_state(options, params)

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, ScaleByNominalState]:
        if params is None:
            if jax.tree.leaves(updates):
                raise ValueError(
                    "scale_by_nominal reads the parameters: call update(gradients, state, params)."
                )
            params = updates
        check_real_floating(updates, "gradient")
        check_update_inputs("scale_by_nominal", updates, state.second, params)
        gradients = jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), updates)
        count = jnp.asarray(optax.safe_increment(state.count))
        momenta = tuple(
            optax.tree.update_moment(gradients, tree, decay, 1)
            for decay, tree in zip(DECAYS, state.momenta, strict=True)
        )
        second = optax.tree.update_moment(gradients, state.second, SECOND_DECAY, 2)
        told = _told(options, extra_args)
        step, memory, pending, noise = _step(
            meta_params, told, count, gradients, params, second, momenta, state
        )
        step = jax.tree.map(lambda u, g: u.astype(jnp.result_type(g)), step, updates)
        return step, ScaleByNominalState(count, momenta, second, memory, pending, noise)

    tx = optax.GradientTransformationExtraArgs(init, update)
    return tx if options.nonfinite == "propagate" else skipping_nonfinite(tx)


def _checked_meta_params(options, meta_params):
    """In float32, whatever they were trained in; those of another rule are refused."""
    is_mapping = isinstance(meta_params, Mapping) and "layers" in meta_params
    layers = meta_params["layers"] if is_mapping else meta_params
    try:
        hidden = [layer["bias"].shape[0] for layer in layers[:-1]]
    except (KeyError, TypeError, IndexError, AttributeError):
        hidden = []  # the sentence below says what is missing
    sizes = layer_sizes(options, hidden)
    check_like(
        jax.eval_shape(functools.partial(init_layers, sizes, options.averaged), jax.random.key(0)),
        layers,
        "meta_params",
        "they must come from nominal(...).init with the same directions, averaged, from_start and "
        "num_steps (given or not)",
    )
    return {"layers": optax.tree.cast(layers, jnp.float32)}


def _told(options, extra_args):
    """With what an estimator tells of the episode's length."""
    if options.num_steps is None:
        return options
    told = extra_args.get("num_steps")
    return options if told is None else options._replace(num_steps=in_float32(told))


def _in_float32(options):
    numbers = {name: getattr(options, name) for name in ("rate", "span", "limit", "noise_limit")}
    given = {name: in_float32(number) for name, number in numbers.items() if number is not None}
    return options._replace(**given)


def _step(meta_params, options, count, gradients, params, second, momenta, state):
    """Steps of all tensors, float32 in Optax's sign, what is remembered and what is pending."""
    t = count.astype(jnp.float32)
    leaves, treedef = jax.tree.flatten(gradients)
    if not leaves:
        return gradients, state.memory, state.pending, state.noise
    kept, kept_treedef = jax.tree.flatten(state.memory)  # boxes around them name more axes
    params = [jnp.asarray(p, jnp.float32) for p in jax.tree.leaves(params)]
    columns = [leaves, jax.tree.leaves(second), *map(jax.tree.leaves, momenta)]
    tensors = list(zip(*columns, strict=True))
    normalised = [normalised_by_element(t, *tensor) for tensor in tensors]
    known = t if options.rest_after is None else jnp.minimum(t, options.rest_after)
    memory = jnp.stack([jnp.ravel(each) for each in kept])
    seen, table = tensor_table(
        params, normalised, memory, t, known, options.num_steps, options.alone
    )
    said = network(meta_params, table)
    size, drift, mixture, weights, delay = outputs(said, len(options.directions), options.averaged)
    drift = LEAK * seen[:, len(DECAYS) + 1] + GAIN * jnp.tanh(drift)
    log_size = jnp.tanh(size + drift)
    step_sizes = jnp.exp(options.rate + options.span * log_size) * (known / t)
    noise = state.noise
    if options.noise_limit is not None:
        factor, noise = calmed(options.noise_limit, t, second, momenta[-1], noise)
        step_sizes *= factor
    steps = []
    for i, tensor in enumerate(tensors):
        direction = mixed(options.directions, mixture[i], weights[i], t, normalised[i], *tensor)
        steps.append(step_sizes[i] * jnp.clip(direction, -options.limit, options.limit))
    pending = state.pending
    if options.averaged:
        pairs = [
            part_now(step, old, t, each)
            for step, old, each in zip(steps, jax.tree.leaves(pending), delay, strict=True)
        ]
        steps, left = zip(*pairs, strict=True)
        pending = jax.tree.unflatten(jax.tree.structure(pending), left)
    after = seen.at[:, len(DECAYS)].set(log_size).at[:, len(DECAYS) + 1].set(drift)
    after = [row.reshape(each.shape) for row, each in zip(after, kept, strict=True)]
    return treedef.unflatten(steps), kept_treedef.unflatten(after), pending, noise


@specified("nominal")
def nominal(
    hidden_sizes: Sequence[int] = (16,),
    num_steps: int | None = None,
    rest_after: int | None = None,
    rate: float = -6.0,
    span: float = 7.0,
    limit: float = 5.0,
    directions: Sequence[str] = (),
    averaged: bool = False,
    from_start: bool = False,
    alone: bool = False,
    noise_limit: float | None = None,
    nonfinite: NonFinite = "propagate",
) -> LearnedOptimizer:
    """Adam's normalised direction, with a step size and a mixture of momenta from a small network.

    State: 16 bytes a parameter, 20 with `averaged`. The network runs once for all tensors, not
    once a parameter; an update of a matrix of a million takes some four times Adam's time on two
    CPU cores, with orthogonal `directions` somewhat more than Muon's. It reads `params` (their root
    mean square, of each tensor and of all), so gradient estimators differentiate it by the scan;
    with stopped gradients that derivative goes through the sizes of the parameters too.

    Args:
        hidden_sizes: units of the network's layers.
        num_steps: length of the training, so that steps can die down towards its end; `None`: no
            horizon is known.
        rest_after: after so many steps the network is told no later time, and sizes go down as
            rest_after / t, so that the parameters come to rest however long training goes on
            (Robbins & Monro 1951). `None`: nothing of the kind.
        rate: natural logarithm of the step size around which the network moves it.
        span: by how much its logarithm can differ from `rate`, above 0.
        limit: largest size of a direction's coordinate.
        directions: what is mixed in beside Adam's direction, of the same mixture of momenta:
            "tensor", divided by one root for the whole tensor, as SGD's; "orthogonal", that with
            all singular values near one, as Muon's; "orthogonal_adam", Adam's likewise. These two
            cost a matrix fifteen products of matrices each, and are Adam's direction of a vector.
        averaged: the network also says what share of a step is put off, and over what share of the
            time spent so far it is then taken: schedule-free averaging (Defazio et al. 2024,
            arXiv:2405.15682), for 4 bytes a parameter more. The bound on a step holds for windows
            that do not change from step to step, as those of "opening-suite".
        from_start: the network is told the size of parameters at the first update too, from which
            steps can grow with their units and yet not with themselves.
        alone: the network is told, in place of how many numbers a tensor has, whether it has more
            than two axes and nine tenths of all numbers: a picture or a grid that is itself what
            is sought, unlike kernels and heads of a network.
        noise_limit: where gradients are those of random directions, as an evolution strategy's
            (`nominal_noise`), and have grown to more than so many times what they were at step
            100, sizes go down as they grow: parameters would else walk away with the noise.
            `None`: nothing of the kind.
        nonfinite: "propagate": a gradient that is not finite makes its tensor's steps and state
            NaN, as statistics are of whole tensors; "skip": its coordinate stands still, the others
            go on (`nominal_skip`).

    Returns:
        a `LearnedOptimizer`, close to Adam at exp(rate) when fresh; its meta-parameters are
        `{"layers": [{"kernel": [in, out], "bias": [out]}, ...]}`.

    Raises:
        ValueError: for numbers and names that are not of these kinds.
        TypeError: if `averaged`, `from_start` or `alone` is no bool.

    Example:
        >>> optimizer = nominal((8,))
        >>> meta_params = optimizer.init(jax.random.key(0))
        >>> meta_params["layers"][0]["kernel"].shape
        (21, 8)
    """
    further = rate, span, limit, directions, averaged, from_start, alone, noise_limit, nonfinite
    options = checked(num_steps, rest_after, *further)
    sizes = layer_sizes(options, check_sizes("hidden_sizes", hidden_sizes))

    def init(key: Key) -> MetaParams:
        return {"layers": init_layers(sizes, options.averaged, key)}

    def transform(meta_params: MetaParams) -> optax.GradientTransformationExtraArgs:
        return negated(scale_by_nominal(meta_params, **options._asdict()))

    return LearnedOptimizer(init, transform)
