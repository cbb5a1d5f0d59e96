"""One meta-update: the whole state of a run is one pytree, and a jitted function moves it on."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import GradientEstimator, Key, MetaParams, PyTree
from l2ljax.base.words import dtype_of, kind_of
from l2ljax.estimators.divergence import select
from l2ljax.estimators.returned import check_returned
from l2ljax.parallel import replicate
from l2ljax.training.faults import (
    DEFAULT_LIMITS,
    Faults,
    Limits,
    count_faults,
    given_up,
    is_finite,
    no_faults,
    stays_finite,
)
from l2ljax.training.meta_optimizers import restart, update_by
from l2ljax.training.records import check_names
from l2ljax.training.validation import Validation

NO_SCORE = float(jnp.finfo(jnp.float32).max)
"""Where no validation has succeeded yet. An infinity would set off `jax_debug_infs`."""


class MetaTrainState(NamedTuple):
    """Everything a run needs to go on.

    Attributes:
        update: int32 scalar, meta-updates made.
        key: the run's random key; update n uses `fold_in(key, n)`.
        meta_params: the current meta-parameters [phi].
        opt_state: the meta-optimizer's state.
        estimator_state: the estimator's running episodes.
        best_meta_params, best_score, best_update: the best so far by validation, with a float32 and
            an int32 scalar; until one has succeeded, the last meta-parameters that gave a finite
            meta-gradient, and `NO_SCORE`.
        faults: what was not finite.

    Example:
        >>> sgd, phi = optax.sgd(0.1), jnp.float32(3.0)
        >>> state = MetaTrainState(
        ...     jnp.int32(0), jax.random.key(0), phi, sgd.init(phi), (), phi, jnp.float32(NO_SCORE),
        ...     jnp.int32(0), no_faults(),
        ... )
        >>> float(state._replace(meta_params=phi / 2).meta_params)
        1.5
    """

    update: jax.Array
    key: Key
    meta_params: MetaParams
    opt_state: PyTree
    estimator_state: PyTree
    best_meta_params: MetaParams
    best_score: jax.Array
    best_update: jax.Array
    faults: Faults


def init_state(
    estimator: GradientEstimator,
    meta_optimizer: optax.GradientTransformation,
    meta_params: MetaParams,
    key: Key,
) -> MetaTrainState:
    """The state before the first update, on the devices of the estimator's mesh.

    Args:
        estimator: of the meta-gradient.
        meta_optimizer: any Optax transformation.
        meta_params: where to start, a tree of float arrays; copied.
        key: the run's.

    Returns:
        the state, whose arrays `meta_step` may overwrite.

    Example:
        >>> @jax.tree_util.register_static
        ... class Parabola(GradientEstimator):  # L(phi) = phi^2
        ...     def init(self, key, meta_params):
        ...         return ()
        ...     def estimate(self, meta_params, state, key):
        ...         return meta_params**2, 2 * meta_params, state, {}
        >>> state = init_state(Parabola(), optax.sgd(0.25), jnp.float32(3.0), jax.random.key(0))
        >>> int(state.update), float(state.meta_params)
        (0, 3.0)
    """
    # Everything is where the compiled step will leave it, so that its second call is as its first.
    mesh = getattr(estimator, "mesh", None)
    init_key, run_key = jax.random.split(replicate(key, mesh))
    meta_params = jax.tree.map(_own, meta_params)
    shared = (
        jnp.zeros([], jnp.int32),
        run_key,
        meta_params,
        meta_optimizer.init(meta_params),
        meta_params,
        jnp.full([], NO_SCORE, jnp.float32),
        jnp.zeros([], jnp.int32),
        no_faults(),
    )
    shared = replicate(jax.tree.map(_own, shared), mesh)
    update, run_key, meta_params, opt_state, *best = shared
    estimator_state = jax.jit(type(estimator).init)(estimator, init_key, meta_params)
    return MetaTrainState(update, run_key, meta_params, opt_state, estimator_state, *best)


def _own(leaf: Any) -> jax.Array:
    """A copy, as the state is donated and the caller's arrays are not; of a dtype that is sure."""
    leaf = jnp.array(leaf, copy=True)
    weak = getattr(leaf, "weak_type", False)  # then the next step would be compiled anew
    return leaf.astype(leaf.dtype) if weak else leaf


@functools.partial(jax.jit, static_argnames=("meta_optimizer", "limits"), donate_argnames="state")
def meta_step(
    estimator: GradientEstimator,
    meta_optimizer: optax.GradientTransformation,
    state: MetaTrainState,
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[MetaTrainState, dict[str, Any]]:
    """One meta-update, skipped where it is not finite. `state` is donated: use the one returned.

    Args:
        estimator: of the meta-gradient.
        meta_optimizer: the transformation that `init_state` was given.
        state: from `init_state` or the step before.
        limits: how many faults it takes, see `meta_train`.

    Returns:
        the next state, and metrics by name: the estimator's but for `diverged_at`, the float
        scalars `meta_loss` and `meta_grad_norm`, and `faults` (the state's).

    Raises:
        TypeError, ValueError: if `estimate` returns anything but a scalar, a meta-gradient like
            the meta-parameters, a state like the one given and a dict of real numbers.

    Example:
        In a loop of one's own:

        >>> @jax.tree_util.register_static
        ... class Parabola(GradientEstimator):  # L(phi) = phi^2
        ...     def init(self, key, meta_params):
        ...         return ()
        ...     def estimate(self, meta_params, state, key):
        ...         return meta_params**2, 2 * meta_params, state, {}
        >>> estimator, sgd = Parabola(), optax.sgd(0.25)
        >>> state = init_state(estimator, sgd, jnp.float32(3.0), jax.random.key(0))
        >>> for _ in range(2):  # phi - 0.25 * 2 phi, twice
        ...     state, metrics = meta_step(estimator, sgd, state)
        >>> float(state.meta_params), float(metrics["meta_grad_norm"])
        (0.75, 3.0)
    """
    returned = estimator.estimate(
        state.meta_params, state.estimator_state, jax.random.fold_in(state.key, state.update)
    )
    check_returned(returned, state.meta_params, state.estimator_state)
    meta_loss, meta_grads, estimator_state, metrics = returned
    check_names(metrics)

    def estimate(meta_params):
        key = jax.random.fold_in(state.key, state.update)
        return estimator.estimate(meta_params, state.estimator_state, key)[:2]

    updates, opt_state = update_by(
        meta_optimizer, meta_grads, state.opt_state, state.meta_params, estimate, meta_loss
    )
    scale = state.faults.step_scale
    updates = jax.tree.map(lambda u: u * scale.astype(u.dtype), updates)
    meta_params = optax.apply_updates(state.meta_params, updates)

    finite = is_finite((meta_loss, meta_grads))
    kept = is_finite(meta_params) & stays_finite(opt_state, state.opt_state)
    good = finite & kept & ~given_up(state.faults, limits)
    best = select(
        finite & (state.best_score >= NO_SCORE), state.meta_params, state.best_meta_params
    )
    diverged_at = metrics.get("diverged_at", jnp.full(1, -1, jnp.int32))
    faults, back = count_faults(state.faults, good, diverged_at, state.update + 1, limits)
    meta_params = select(good, meta_params, select(back, best, state.meta_params))
    restarted = restart(meta_optimizer, meta_params, state.opt_state)
    opt_state = select(good, opt_state, select(back, restarted, state.opt_state))
    state = state._replace(
        update=state.update + 1,
        meta_params=meta_params,
        opt_state=opt_state,
        estimator_state=estimator_state,
        best_meta_params=best,
        faults=faults,
    )
    metrics = {k: v for k, v in metrics.items() if k != "diverged_at"}
    norm = optax.tree.norm(meta_grads)
    return state, {"meta_loss": meta_loss, "meta_grad_norm": norm, **metrics, "faults": faults}


@functools.partial(jax.jit, donate_argnames="state")
def validate(validation: Validation, state: MetaTrainState) -> tuple[MetaTrainState, jax.Array]:
    """Scores the meta-parameters and keeps the best. `state` is donated: use the one returned.

    Raises:
        ValueError: if the score is no real scalar.
    """
    score = _as_scalar(validation.score(state.meta_params), state.best_score.dtype)
    better = score < state.best_score
    return (
        state._replace(
            best_meta_params=select(better, state.meta_params, state.best_meta_params),
            best_score=jnp.where(better, score, state.best_score),
            best_update=jnp.where(better, state.update, state.best_update),
        ),
        score,
    )


def _as_scalar(score: Any, dtype: Any) -> jax.Array:
    """The score in the state's dtype: in another the next step would be compiled anew."""
    given = dtype_of(score)
    if given is None or jnp.shape(score) != () or jnp.issubdtype(given, jnp.complexfloating):
        raise ValueError(
            f"A validation's score must be a real scalar, but this one {kind_of(score)}"
            f"{'' if given is None else f' and shape {jnp.shape(score)}'}; return a real number, "
            "for example by jnp.mean."
        )
    return jnp.asarray(score, dtype)
