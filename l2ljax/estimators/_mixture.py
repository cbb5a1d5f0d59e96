"""One estimator made of several, so that a run trains on tasks of different shapes.

Each meta-update is one member's, in turn or drawn; all members are branches of one compiled
program. Tasks' meta-losses may differ by orders of magnitude, so each member's meta-gradient is
divided by its own running size.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from l2ljax.base import GradientEstimator, Key, MetaParams
from l2ljax.checks import is_number, short
from l2ljax.estimators.crossing import check_crossing, common_optimizer


class MixtureState(NamedTuple):
    """Where a mixture stands.

    Attributes:
        turn: int32 scalar, meta-gradients made.
        sizes: name -> float32 scalar, running mean of the squared size of that member's
            meta-gradients (or meta-losses), of which `counts` (int32) were finite.
        counts: see `sizes`.
        members: name -> that member's state.
    """

    turn: jax.Array
    sizes: dict[str, jax.Array]
    counts: dict[str, jax.Array]
    members: dict[str, Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture(GradientEstimator):
    """See `mixture`, which checks these fields and fills them in."""

    members: dict[str, GradientEstimator]
    probabilities: tuple[float, ...] | None = dataclasses.field(metadata={"static": True})
    normalize: Literal["gradient", "loss"] | None = dataclasses.field(metadata={"static": True})
    decay: float = dataclasses.field(metadata={"static": True})

    @property
    def mesh(self):
        """The members' mesh."""
        meshes = (getattr(member, "mesh", None) for member in self.members.values())
        return next((mesh for mesh in meshes if mesh is not None), None)

    @property
    def optimizer(self) -> Any:
        """What the members train, if all that tell say the same, else `None`."""
        return common_optimizer(self.members.values())

    def init(self, key: Key, meta_params: MetaParams) -> MixtureState:
        """The members' starting states."""
        keys = jax.random.split(key, len(self.members))
        return MixtureState(
            jnp.zeros([], jnp.int32),
            {name: jnp.zeros([], jnp.float32) for name in self.members},
            {name: jnp.zeros([], jnp.int32) for name in self.members},
            {
                name: member.init(k, meta_params)
                for k, (name, member) in zip(keys, self.members.items(), strict=True)
            },
        )

    def estimate(
        self, meta_params: MetaParams, state: MixtureState, key: Key
    ) -> tuple[jax.Array, MetaParams, MixtureState, dict[str, Any]]:
        """The meta-gradient of one member, divided by the running size of its own.

        `meta_loss` is that member's, as it is. `metrics` has `member` (int32, whose turn it was,
        its place in alphabetical order), `diverged_at` (int32, as long as the largest member's)
        and, under each member's name, its metrics: in the turns of others numbers are NaN, and
        integers -1.
        """
        draw_key, key = jax.random.split(key)
        if self.probabilities is None:
            index = state.turn % len(self.members)
        else:
            logits = jnp.log(jnp.asarray(self.probabilities, jnp.float32))
            index = jax.random.categorical(draw_key, logits).astype(jnp.int32)
        names = list(self.members)
        shapes = {
            name: jax.eval_shape(member.estimate, meta_params, state.members[name], key)[3]
            for name, member in self.members.items()
        }
        longest = max([len(s["diverged_at"]) for s in shapes.values() if "diverged_at" in s] + [1])
        branches = [self._turn_of(name, shapes, longest) for name in names]
        loss, grads, state, metrics = jax.lax.switch(index, branches, meta_params, state, key)
        return loss, grads, state, metrics | {"member": index}

    def _turn_of(self, name, shapes, longest):
        def turn(meta_params, state, key):
            loss, grads, after, metrics = self.members[name].estimate(
                meta_params, state.members[name], key
            )
            grads, size, count = self._normalized(
                loss, grads, state.sizes[name], state.counts[name]
            )
            found = {other: jax.tree.map(_absent, shapes[other]) for other in self.members}
            found[name] = dict(metrics)
            for each in found.values():
                each.pop("diverged_at", None)
            diverged_at = metrics.get("diverged_at", jnp.full(1, -1, jnp.int32))
            diverged_at = jnp.pad(diverged_at, (0, longest - len(diverged_at)), constant_values=-1)
            state = MixtureState(
                state.turn + 1,
                state.sizes | {name: size},
                state.counts | {name: count},
                state.members | {name: after},
            )
            return loss, grads, state, {**found, "diverged_at": diverged_at}

        return turn

    def _normalized(self, loss, grads, size, count):
        """The gradient over the root of the running mean square, this one's included.

        One whose square is beyond float32 has no size to be divided by: it is NaN, as it would
        else pass undivided; `meta_train` skips it.
        """
        if self.normalize is None:
            return grads, size, count
        new = loss if self.normalize == "loss" else optax.tree.norm(grads)
        square = jnp.square(new.astype(jnp.float32))
        good = jnp.isfinite(square)
        size = jnp.where(good, self.decay * size + (1 - self.decay) * square, size)
        count = count + good.astype(jnp.int32)
        mean = size / (1 - self.decay ** jnp.maximum(count, 1).astype(jnp.float32))
        scale = jax.lax.rsqrt(jnp.maximum(mean, jnp.finfo(jnp.float32).tiny))
        scale = jnp.where(good, scale, jnp.nan)
        return jax.tree.map(lambda g: g * scale.astype(g.dtype), grads), size, count


def _absent(like):
    if jnp.issubdtype(like.dtype, jnp.floating):
        return jnp.full(like.shape, jnp.nan, like.dtype)
    if like.dtype == bool:
        return jnp.zeros(like.shape, bool)
    return jnp.full(like.shape, -1, like.dtype)


def mixture(
    estimators: Mapping[str, GradientEstimator],
    probabilities: Mapping[str, float] | None = None,
    *,
    normalize: Literal["gradient", "loss"] | None = "gradient",
    decay: float = 0.9,
) -> Mixture:
    """An estimator whose meta-gradients come of one member at a time.

    Members train the same learned optimizer, each on a task of its own: networks of different
    shapes, data of different scales, windows of different lengths, of any kind of estimator.

    Args:
        estimators: name -> estimator. Those with a mesh must have the same.
        probabilities: name -> probability of a turn; they are divided by their sum. Default: the
            members take turns, in alphabetical order.
        normalize: what each member's meta-gradient is divided by, so that no task's scale decides:
            "gradient": the root of the running mean square of the norms of that member's
            meta-gradients, which bounds an outlier to `1 / sqrt(1 - decay)`. "loss": the same of
            its meta-losses, which leaves it to a task how much phi matters for it. `None`: nothing.
        decay: of the running mean, from one of the member's turns to its next, in [0, 1).

    Returns:
        a `GradientEstimator`; its metrics are nested, see its `estimate`.

    Raises:
        ValueError: without members, for names or probabilities that do not fit, and for an unknown
            `normalize` or a `decay` outside [0, 1).
        TypeError: for a member that is no `GradientEstimator`, or no pytree of arrays.

    Example:
        >>> from l2ljax.estimators import pes, truncated_bptt
        >>> from l2ljax.optimizers import lstm
        >>> from l2ljax.tasks import quadratic
        >>> windows = {"num_tasks": 2, "episode_length": 10, "unroll_length": 5}
        >>> estimator = mixture({
        ...     "small": truncated_bptt(quadratic(2), lstm((4,)), **windows),
        ...     "large": pes(quadratic(5), lstm((4,)), num_perturbations=2, sigma=0.01, **windows),
        ... })
        >>> meta_params = lstm((4,)).init(jax.random.key(0))
        >>> state = estimator.init(jax.random.key(1), meta_params)
        >>> loss, grads, state, metrics = estimator.estimate(meta_params, state, jax.random.key(2))
        >>> int(metrics["member"]), sorted(metrics)  # "large" is first
        (0, ['diverged_at', 'large', 'member', 'small'])
    """
    if not isinstance(estimators, Mapping) or not estimators:
        raise ValueError(
            f"mixture needs a dict of name -> estimator with a member, got {short(estimators)}."
        )
    for name, member in estimators.items():
        if not isinstance(name, str) or name in ("member", "diverged_at"):
            raise ValueError(
                f'A member\'s name must be a string other than "member" and "diverged_at", '
                f"got {short(name)}."
            )
        check_crossing(f"mixture's member {short(name)}", member)
    meshes = {getattr(member, "mesh", None) for member in estimators.values()} - {None}
    if len(meshes) > 1:
        raise ValueError("The members of a mixture must have the same mesh, got several.")
    if normalize not in ("gradient", "loss", None):
        raise ValueError(f'normalize must be "gradient", "loss" or None, got {short(normalize)}.')
    if not (is_number(decay) and 0 <= decay < 1):
        raise ValueError(f"decay must lie in [0, 1), got {short(decay)}.")
    names = sorted(estimators)
    shares = None
    if probabilities is not None:
        shares = _check_probabilities(probabilities, names)
    return Mixture(
        members={name: estimators[name] for name in names},
        probabilities=shares,
        normalize=normalize,
        decay=float(decay),
    )


def _check_probabilities(probabilities, names):
    fits = isinstance(probabilities, Mapping) and sorted(probabilities) == names
    values = [probabilities[name] for name in names] if fits else []
    if not fits or not all(is_number(p) and p >= 0 for p in values) or not sum(values):
        raise ValueError(
            f"probabilities must be a dict with the members' names {names} and numbers >= 0, not "
            f"all 0, got {short(probabilities)}."
        )
    return tuple((np.asarray(values, float) / sum(values)).tolist())
