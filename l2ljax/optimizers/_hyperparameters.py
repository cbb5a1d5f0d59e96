"""The scalars of any Optax transformation as meta-parameters.

A learned learning rate is the oldest learned optimizer (Almeida et al. 1998; Baydin et al. 2018,
arXiv:1703.04782; Maclaurin et al. 2015, arXiv:1502.03492, learn whole schedules by unrolling). The
transformation is built anew in each step from the step's hyperparameters, as
`optax.inject_hyperparams` does, but from meta-parameters that a meta-gradient reaches.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import CoordinateGroup, Key, LearnedOptimizer, MetaParams, Params, PyTree
from l2ljax.checks import (
    check_choice,
    check_like,
    check_number,
    check_positive_int,
    check_real_floating,
    short,
)
from l2ljax.optimizers._partition import partition
from l2ljax.optimizers.parametrised import Parametrised, as_parametrised
from l2ljax.optimizers.plain_labels import labels_as_plain
from l2ljax.optimizers.schedules import Schedule, constant, network, piecewise
from l2ljax.specification import specified
from l2ljax.specification.plain import as_plain

ScheduleKind = Literal["piecewise", "network"]

SMALLEST_ROOT = 1e-30
"""Under Adam's root where its own `eps_root` is 0: the derivative of a root at 0 is infinite."""


class HyperparametersState(NamedTuple):
    """State of `hyperparameters`.

    Attributes:
        count: int32 scalar, updates made so far (it stops at the largest int32).
        inner: the state of the transformation, float32 where that is real.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    inner: PyTree


def _plain_labels(labels: PyTree | Callable[[Params], PyTree], live: list[Any]) -> Any:
    """A partition's, but for names of functions, which stand for none here."""
    if labels is None or not callable(labels):
        return None if labels is None else labels_as_plain(labels, live)
    live.append(labels)
    return as_plain(labels)


@specified("hyperparameters", encode={"labels": ("labels", _plain_labels)})
def hyperparameters(
    make_tx: Callable[..., optax.GradientTransformation],
    start: Mapping[str, Any],
    schedule: ScheduleKind | None = None,
    *,
    num_steps: int | None = None,
    scheduled: Sequence[str] | None = None,
    num_knots: int = 8,
    hidden_size: int = 8,
    labels: PyTree | Callable[[Params], PyTree] = None,
    groups: Sequence[str] | None = None,
    spread: float = 0.0,
    coordinatewise: bool = False,
) -> LearnedOptimizer:
    """Any Optax transformation with its scalars as meta-parameters: constants or schedules.

    What the result costs and how it behaves is what `make_tx` does. It computes in float32,
    whatever the dtype of the parameters; updates have each gradient's dtype. Where `make_tx` takes
    an `eps_root` that nobody gives, it is 1e-30 instead of 0: Adam's updates stay what they are,
    and their derivative by b2 stays finite for coordinates whose gradients are all 0.

    Args:
        make_tx: hyperparameters by name -> a complete transformation: `optax.adamw`, or a
            function of your own. Traced numbers must do, as for `optax.inject_hyperparams`.
        start: name -> where the hyperparameter starts: `l2ljax.log(x)` for a positive one,
            `l2ljax.logit(x)` for one between 0 and 1, or a number that is learned as it is.
        schedule: `None`: constants. "piecewise": on its scale (log, logit) each is piecewise linear
            in the step. "network": on its scale each is its constant plus the output of one
            network with a hidden layer, whose inputs are functions of the step. Both start
            constant.
        num_steps: length of training, which schedules are stretched over (and hold their last value
            after); `None`: they are functions of log(1 + step), up to 100,000 steps.
        scheduled: which of the names have a schedule; `None`: all.
        num_knots: of a piecewise schedule, the first at step 0 and the last at `num_steps`.
        hidden_size: of the network.
        labels: `None`, or labels as for `l2ljax.partition`: each of `groups` then has its
            hyperparameters, and a transformation, of its own.
        groups: the labels there are.
        spread: standard deviation of normal noise on the scales, that `init` adds.
        coordinatewise: says that what `make_tx` makes treats each coordinate alone and does not
            read the parameters (`optax.adam`; not `optax.adamw`): for the recorded backward pass.

    Returns:
        a `LearnedOptimizer` with meta-parameters name -> float32 array on the scale of its kind:
        `[]` where constant, `[num_knots]` where piecewise; with a network also "schedule/kernel"
        `[hidden_size, features]`, "schedule/bias" `[hidden_size]`, and for each scheduled name
        "schedule/NAME" `[hidden_size]`. With `labels`, `{label: such a dict}`.

    Raises:
        ValueError: for an argument that is not of its kind, or a name that `make_tx` does not take.

    Example:
        >>> import l2ljax
        >>> optimizer = hyperparameters(
        ...     optax.adam, {"learning_rate": l2ljax.log(1e-3), "b1": l2ljax.logit(0.9)}
        ... )
        >>> meta_params = optimizer.init(jax.random.key(0))
        >>> tx = optimizer.transform(meta_params)
        >>> updates, _ = tx.update(jnp.array([1.0, -2.0]), tx.init(jnp.zeros(2)))
        >>> [round(float(u), 6) for u in updates]
        [-0.001, 0.001]
    """
    if schedule is not None:
        check_choice("schedule", schedule, get_args(ScheduleKind))
    if num_steps is not None:
        check_positive_int("num_steps", num_steps, minimum=2)
    check_positive_int("num_knots", num_knots, minimum=2)
    check_positive_int("hidden_size", hidden_size)
    check_number("spread", spread)
    values, fixed = _checked_start(make_tx, start)
    moving = _checked_names("scheduled", values if scheduled is None else scheduled, values)
    shape: Schedule = {
        None: constant,
        "piecewise": functools.partial(piecewise, num_steps=num_steps, num_knots=num_knots),
        "network": functools.partial(network, num_steps=num_steps, hidden_size=hidden_size),
    }[schedule](moving)
    optimizer = _one_group(functools.partial(make_tx, **fixed), values, shape, spread)
    if coordinatewise:
        optimizer = optimizer._replace(
            coordinate_groups=lambda params: (
                CoordinateGroup(tuple(range(len(jax.tree.leaves(params)))), optimizer.transform),
            )
        )
    if labels is None:
        if groups is not None:
            raise ValueError(
                f"groups={short(groups)} are names of labels: give labels, too, or leave both out."
            )
        return optimizer
    return partition(dict.fromkeys(_checked_groups(groups), optimizer), labels)


def _one_group(
    make_tx: Callable[..., optax.GradientTransformation],
    values: Mapping[str, Parametrised],
    shape: Schedule,
    spread: float,
) -> LearnedOptimizer:
    """`hyperparameters` of checked arguments, without groups."""

    def init(key: Key) -> MetaParams:
        noise_key, shape_key = jax.random.split(key)
        keys = jax.random.split(noise_key, len(values))
        raws = {
            name: value.raw + spread * jax.random.normal(k, (), jnp.float32)
            for (name, value), k in zip(sorted(values.items()), keys, strict=True)
        }
        return shape.init(shape_key, raws)

    like = jax.eval_shape(init, jax.random.key(0))

    def transform(meta_params: MetaParams) -> optax.GradientTransformationExtraArgs:
        check_like(like, meta_params, "meta_params", "use init of the same optimizer")

        def make(count: jax.Array) -> optax.GradientTransformationExtraArgs:
            raws = shape.at(meta_params, count)
            scalars = {name: value.of(raws[name]) for name, value in values.items()}
            return optax.with_extra_args_support(make_tx(**scalars))

        return _rebuilt_each_step(make)

    return LearnedOptimizer(init, transform)


def _rebuilt_each_step(
    make: Callable[[jax.Array], optax.GradientTransformationExtraArgs],
) -> optax.GradientTransformationExtraArgs:
    """step -> transformation, as one transformation that computes in float32."""

    def init(params: PyTree) -> HyperparametersState:
        check_real_floating(params, "parameter")
        count = jnp.zeros([], jnp.int32)
        return HyperparametersState(count, make(count).init(_as_float32(params)))

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, HyperparametersState]:
        check_real_floating(updates, "gradient")
        stepped, inner = make(state.count).update(
            _as_float32(updates), state.inner, _as_float32(params), **extra_args
        )
        stepped = jax.tree.map(lambda u, g: u.astype(jnp.result_type(g)), stepped, updates)
        count = jnp.asarray(optax.safe_increment(state.count))
        return stepped, HyperparametersState(count, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _as_float32(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def _checked_start(
    make_tx: Callable[..., Any], start: Mapping[str, Any]
) -> tuple[dict[str, Parametrised], dict[str, float]]:
    """The hyperparameters to learn, and those that are given to `make_tx` besides."""
    if not callable(make_tx):
        raise ValueError(f"make_tx must be a function such as optax.adamw, got {short(make_tx)}.")
    if not isinstance(start, Mapping) or not start:
        raise ValueError(
            'start must be a dict such as {"learning_rate": l2ljax.log(1e-3)}, '
            f"got {short(start)}."
        )
    values = {name: as_parametrised(short(name), value) for name, value in start.items()}
    parameters = inspect.signature(make_tx).parameters
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        _checked_names("start", values, parameters)
    root = parameters.get("eps_root")
    add_root = root is not None and root.default == 0 and "eps_root" not in values
    return values, {"eps_root": SMALLEST_ROOT} if add_root else {}


def _checked_names(what: str, names: Any, known: Any) -> tuple[str, ...]:
    for name in names:
        if name not in known:
            raise ValueError(f"{what} has no use for {short(name)}; there are {', '.join(known)}.")
    return tuple(names)


def _checked_groups(groups: Any) -> tuple[str, ...]:
    if isinstance(groups, str) or not isinstance(groups, Sequence) or not groups:
        raise ValueError(
            f'labels need groups, all there are, such as ("conv", "fc"), got {short(groups)}.'
        )
    return tuple(groups)
