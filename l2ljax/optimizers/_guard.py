"""A learned optimizer under the eye of one that is known to be safe.

After "Safeguarded learned convex optimization" (Heaton et al. 2020, arXiv:2003.01880) and
Loss-Guarded L2O (Premont-Schwarz et al. 2022, arXiv:2201.12426): two optimizers see every gradient,
the learned one's update is used while four tests pass, the other's while one fails. Unlike those,
no further loss is evaluated: the losses that training computes anyway are averaged.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from l2ljax.base import PyTree
from l2ljax.checks import (
    check_number,
    check_positive_int,
    check_real_floating,
    check_transform,
    short,
)
from l2ljax.optimizers.guard_sums import look_at
from l2ljax.optimizers.loss_watch import LossWatch, add_if, fresh_watch, watch_loss


class GuardCounts(NamedTuple):
    """Why a guard intervened: int32 scalars.

    Attributes:
        nonfinite: steps at which the learned update's norm was not finite.
        norm: further steps at which its norm exceeded the bound.
        slope: further steps at which the gradients said that it climbs.
        loss: times that the average loss rose too far, each of which begins a hold.
        fallback: steps in all at which the fallback's update was used; a step that went back to
            the anchor in its place counts too.
        skipped: steps at which the fallback's update was to be made and was not finite either,
            likewise.
    """

    nonfinite: jax.Array
    norm: jax.Array
    slope: jax.Array
    loss: jax.Array
    fallback: jax.Array
    skipped: jax.Array


class Slopes(NamedTuple):
    """Averages of what <gradient, update> says, float32 scalars: below 0 it descends.

    Attributes:
        learned: of the learned optimizer's updates: -1 for each that falls, and for one that climbs
            how many times what the fallback's falls, at least 1.
        fallback: of the fallback's: -1 or 1.
    """

    learned: jax.Array
    fallback: jax.Array


class GuardState(NamedTuple):
    """State of `guard`.

    Attributes:
        count: int32 scalar, updates made so far (it stops at the largest int32).
        learned: the learned optimizer's state.
        fallback: the fallback's.
        counts: how often it intervened, and why.
        slopes: what the slope test remembers.
        watch: what the loss test remembers.
        anchor: the parameters at `watch.best`, or `()` for a guard that does not go back.

    Example:
        >>> state = guard(optax.sgd(0.1), optax.adam(1e-3)).init(jnp.ones(2))
        >>> int(state.count), state.anchor
        (0, ())
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    learned: PyTree
    fallback: PyTree
    counts: GuardCounts
    slopes: Slopes
    watch: LossWatch
    anchor: PyTree


def guard(
    learned: optax.GradientTransformation,
    fallback: optax.GradientTransformation,
    *,
    max_ratio: float = 10.0,
    decay: float = 0.9,
    tolerance: float = 3.0,
    hold: int = 10_000,
    go_back: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Uses `learned`'s updates while they pass four tests, `fallback`'s while one fails.

    Both see every gradient, so that both states are warm. At each step, in this order:

    1. *Finite.* If the learned update's norm is not finite, this step is the fallback's. A number
       of either state that would not be finite stays as it was.
    2. *Norm.* If the learned update's norm exceeds `max_ratio` times that of the fallback's, over
       all parameters together, this step is the fallback's.
    3. *Slope.* By the signs of <gradient, update>, which is what an update changes of the loss in
       first order, averaged with each step's weighing `decay` squared times the next one's. A
       learned update that climbs n times as steeply as the fallback's counts n-fold. Where they
       climb on average (above 0) and the fallback's fall, this step is the fallback's.
    4. *Loss*, where `update` gets `value=`. A is the average of the losses, each step's weighing
       `decay` times the next one's; D that of `|value - previous value|`, up to the step before; B
       the least A since the learned optimizer took over. When A > B + `tolerance` * D, or when the
       loss is not finite, the learned optimizer has failed: this step and the next `hold` are the
       fallback's, twice as many after each further failure; with `go_back` this one takes the
       parameters to where A was B. Then the learned optimizer tries again, with B starting from A
       as it is. The test begins after 1 / (1 - `decay`) losses, and after two.

    What is certain (docs/guard.md has the proofs): updates are finite while parameters are; none is
    longer than max(1, `max_ratio`) times the fallback's where that is finite (but for those that go
    back); of steps in a row that climb, at most three are used (with this `decay`, while the
    fallback's fall); in T steps there are at most 1 + log2(1 + T / hold) failures by the loss; A
    never exceeds B by more than `tolerance` * D at a step that the learned optimizer keeps control
    of.

    Args:
        learned: complete and additive, as `optimizer.transform(meta_params)` is.
        fallback: complete and additive, such as `optax.adam(1e-3)`.
        max_ratio: bound on the norms' ratio, positive.
        decay: of the averages, from 0 to below 1; those of the loss remember about 1 / (1 - decay)
            steps, those of slopes half as many.
        tolerance: rise of A in units of D, positive. With independent losses of standard deviation
            s, D is 1.13 s and A's own standard deviation s sqrt((1 - decay) / (1 + decay)).
        hold: steps of the fallback after the first failure by the loss.
        go_back: keep a copy of the best parameters and go back to them after a failure by the loss.
            It needs `params` in `update`; where they are missing a failure only switches.

    Returns:
        an Optax transformation whose state is a `GuardState`: two optimizers', and with `go_back` a
        copy of the parameters. Extra arguments go to both. Updates have each gradient's dtype.

    Raises:
        ValueError: for a number that is out of its range.
        TypeError: if `learned` or `fallback` is no Optax transformation; from `init` and `update`,
            if a leaf is not of a real floating dtype.

    Example:
        >>> uphill = optax.sgd(-0.01)
        >>> tx = guard(uphill, optax.sgd(0.1))
        >>> x, state = jnp.array([1.0]), tx.init(jnp.array([1.0]))
        >>> for _ in range(100):
        ...     loss, gradient = jax.value_and_grad(lambda x: x[0] ** 2)(x)
        ...     updates, state = tx.update(gradient, state, x, value=loss)
        ...     x = optax.apply_updates(x, updates)
        >>> bool(x[0] < 0.1), int(state.counts.slope)
        (True, 100)
    """
    check_transform("learned", learned)
    check_transform("fallback", fallback)
    decay = _checked_decay(max_ratio, decay, tolerance, hold)
    learned = optax.with_extra_args_support(learned)
    fallback = optax.with_extra_args_support(fallback)

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any
    ) -> tuple[PyTree, GuardState]:
        check_real_floating(updates, "gradient")
        ours, learned_state = learned.update(updates, state.learned, params, **extra_args)
        safe, fallback_state = fallback.update(updates, state.fallback, params, **extra_args)
        ours, safe = _like(ours, updates), _like(safe, updates)
        seen = look_at(updates, ours, safe)
        finite, safe_finite = jnp.isfinite(seen.learned_norm), jnp.isfinite(seen.fallback_norm)
        small = seen.learned_norm <= max_ratio * seen.fallback_norm
        slopes = _slopes(state.slopes, decay**2, seen.learned_slope, seen.fallback_slope)
        climbs = (slopes.learned > 0) & (slopes.fallback < 0)
        failed, improved, watch = watch_loss(
            state.watch, extra_args.get("value"), state.counts.loss, decay, tolerance, hold
        )

        passes = (small & ~climbs) | ~safe_finite
        use_ours = finite & passes & (watch.hold == 0) & ~failed
        chosen = _choose(use_ours, safe_finite, ours, safe)
        anchor = state.anchor
        if go_back and params is not None:
            anchor = _where(improved, _like(params, anchor), anchor)
            back = jax.tree.map(lambda a, p: a.astype(p.dtype) - p, anchor, _arrays(params))
            chosen = _where(failed, _like(back, updates), chosen)
        happened = GuardCounts(
            nonfinite=~finite,
            norm=finite & safe_finite & ~small,
            slope=finite & safe_finite & small & climbs,
            loss=failed,
            fallback=~use_ours & safe_finite,
            skipped=~use_ours & ~safe_finite,
        )
        return chosen, GuardState(
            count=jnp.asarray(optax.safe_increment(state.count)),
            learned=_keep_finite(learned_state, state.learned),
            fallback=_keep_finite(fallback_state, state.fallback),
            counts=GuardCounts(*map(add_if, state.counts, happened)),
            slopes=slopes,
            watch=watch._replace(hold=jnp.maximum(watch.hold - ~failed, 0)),
            anchor=anchor,
        )

    init = functools.partial(_init, learned, fallback, go_back)
    return optax.GradientTransformationExtraArgs(init, update)


def _init(learned: Any, fallback: Any, go_back: bool, params: PyTree) -> GuardState:
    check_real_floating(params, "parameter")
    return GuardState(
        count=jnp.zeros([], jnp.int32),
        learned=learned.init(params),
        fallback=fallback.init(params),
        counts=GuardCounts(*[jnp.zeros([], jnp.int32) for _ in GuardCounts._fields]),
        slopes=Slopes(jnp.zeros([], jnp.float32), jnp.zeros([], jnp.float32)),
        watch=fresh_watch(),
        # A copy: a state that shares its buffers with the parameters could not be donated.
        anchor=jax.tree.map(lambda p: jnp.array(p, copy=True), params) if go_back else (),
    )


def _checked_decay(max_ratio: Any, decay: Any, tolerance: Any, hold: Any) -> float:
    """As Python's float, since NumPy's would make float64 of the averages; others are refused."""
    check_number("max_ratio", max_ratio, above=0)
    check_number("tolerance", tolerance, above=0)
    check_positive_int("hold", hold)
    check_number("decay", decay)
    if not 0 <= float(decay) < 1:
        raise ValueError(f"decay must be a number from 0 to below 1, got {short(decay)}.")
    return float(decay)


def _slopes(slopes: Slopes, decay: float, learned: jax.Array, fallback: jax.Array) -> Slopes:
    # No one step can count for more than what turns any average.
    climb = jnp.clip(learned / jnp.abs(fallback), 1, 1 / (1 - decay))
    seen = jnp.where(learned > 0, climb, jnp.sign(learned)), jnp.sign(fallback)
    return Slopes(*(decay * old + (1 - decay) * new for old, new in zip(slopes, seen, strict=True)))


def _choose(use_ours: jax.Array, safe_finite: jax.Array, ours: PyTree, safe: PyTree) -> PyTree:
    # A condition and not a selection: the scalars that decide would be computed once more for every
    # leaf, by a program that grows with the square of their number.
    return jax.lax.cond(
        use_ours,
        lambda ours, safe: ours,
        lambda ours, safe: _where(safe_finite, safe, _zeros(safe)),
        ours,
        safe,
    )


def _keep_finite(new: PyTree, old: PyTree) -> PyTree:
    """Each number of `new`, or where that is not finite of `old`."""

    def keep(a: Any, b: Any) -> Any:
        if not jnp.issubdtype(jnp.result_type(a), jnp.inexact):
            return a
        return jnp.where(jnp.isfinite(a), a, jnp.asarray(b, jnp.result_type(a)))

    return jax.tree.map(keep, new, old)


def _where(condition: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _zeros(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.zeros_like, tree)


def _arrays(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.asarray, tree)


def _like(tree: PyTree, like: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf, other: jnp.asarray(leaf, jnp.result_type(other)), tree, like)
