"""One estimator after another: longer episodes and windows as training goes on.

Chen et al. (2020), arXiv:2010.09089, section 3.2: a learned optimizer is trained on short unrolls
first, whose meta-gradients are small and sure, and on longer ones once it can use them.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from l2ljax.base import GradientEstimator, Key, MetaParams
from l2ljax.checks import check_positive_int, short
from l2ljax.estimators.crossing import check_crossing, common_optimizer


class CurriculumState(NamedTuple):
    """Where a curriculum stands.

    Attributes:
        turn: int32 scalar, meta-gradients made.
        stages: each stage's state; those to come are where they will begin.
    """

    turn: jax.Array
    stages: tuple[Any, ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Curriculum(GradientEstimator):
    """See `curriculum`, which checks these fields and fills them in."""

    stages: tuple[GradientEstimator, ...]
    ends: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    stage: int | None = dataclasses.field(default=None, metadata={"static": True})

    @property
    def mesh(self) -> Mesh | None:
        """The stages' mesh."""
        return next((mesh for mesh in map(_mesh, self.stages) if mesh is not None), None)

    @property
    def optimizer(self) -> Any:
        """What the stages train, if all that tell say the same, else `None`."""
        return common_optimizer(self.stages)

    def at(self, update: int) -> "Curriculum":
        """The curriculum whose program is that of one stage alone, the one of this meta-update."""
        return dataclasses.replace(self, stage=sum(update >= end for end in self.ends))

    def init(self, key: Key, meta_params: MetaParams) -> CurriculumState:
        """The stages' starting states."""
        keys = jax.random.split(key, len(self.stages))
        states = (s.init(k, meta_params) for s, k in zip(self.stages, keys, strict=True))
        return CurriculumState(jnp.zeros([], jnp.int32), tuple(states))

    def estimate(
        self, meta_params: MetaParams, state: CurriculumState, key: Key
    ) -> tuple[jax.Array, MetaParams, CurriculumState, dict[str, Any]]:
        """The meta-gradient of the stage that it is in.

        `metrics` has `stage` (int32, from 0) and the stage's own. In a program of all stages, which
        is what `jax.jit` makes of a curriculum that `at` has not set, it has of the latter only
        what has the same shapes in all, and `diverged_at` (int32, as long as the longest).
        """
        if self.stage is not None:
            loss, grads, state, metrics = self._estimate(self.stage, meta_params, state, key)
            return loss, grads, state, {**metrics, "stage": jnp.int32(self.stage)}
        index = jnp.sum(state.turn >= jnp.asarray(self.ends, jnp.int32), dtype=jnp.int32)
        told = [
            jax.eval_shape(stage.estimate, meta_params, of_stage, key)[3]
            for stage, of_stage in zip(self.stages, state.stages, strict=True)
        ]
        longest = max([len(m["diverged_at"]) for m in told if "diverged_at" in m] + [1])
        shared = [n for n in told[0] if all(_same(told[0][n], m.get(n)) for m in told)]

        def branch(number):
            def run(meta_params, state, key):
                *found, metrics = self._estimate(number, meta_params, state, key)
                diverged = metrics.get("diverged_at", jnp.full(1, -1, jnp.int32))
                padded = jnp.pad(diverged, (0, longest - len(diverged)), constant_values=-1)
                return *found, {n: metrics[n] for n in shared} | {"diverged_at": padded}

            return run

        branches = [branch(number) for number in range(len(self.stages))]
        loss, grads, state, metrics = jax.lax.switch(index, branches, meta_params, state, key)
        return loss, grads, state, {**metrics, "stage": index}

    def _estimate(self, number, meta_params, state, key):
        loss, grads, after, metrics = self.stages[number].estimate(
            meta_params, state.stages[number], key
        )
        stages = (*state.stages[:number], after, *state.stages[number + 1 :])
        return loss, grads, CurriculumState(state.turn + 1, stages), dict(metrics)


def curriculum(stages: Sequence[tuple[int | None, GradientEstimator]]) -> Curriculum:
    """An estimator that is one after another.

    `meta_train` compiles a stage's program when it comes to it; a run that is stopped in the middle
    of a stage goes on there. Each stage begins with optimizees of its own. Inside another estimator
    and in a `jax.jit` of one's own all stages are branches of one program, unless it is given
    `estimator.at(update)`.

    Args:
        stages: `(meta-updates, estimator)` in order, of the same learned optimizer: windows or
            episodes of other lengths, other tasks, another kind of estimator. The last one's number
            is `None`, or is overrun if there are more meta-updates. Those with a mesh must have the
            same.

    Returns:
        a `GradientEstimator`; `metrics` are the stage's, and `stage`.

    Raises:
        ValueError: without stages, for numbers of meta-updates that are no positive integers, and
            for several meshes.
        TypeError: for a stage that is no pair with a `GradientEstimator` that is a pytree.

    Example:
        >>> from l2ljax.estimators import truncated_bptt
        >>> from l2ljax.optimizers import lstm
        >>> from l2ljax.tasks import quadratic
        >>> def windows(length):
        ...     return truncated_bptt(
        ...         quadratic(), lstm((4,)), num_tasks=2, episode_length=length,
        ...         unroll_length=length,
        ...     )
        >>> estimator = curriculum([(100, windows(5)), (200, windows(10)), (None, windows(20))])
        >>> [estimator.at(update).stage for update in (0, 99, 100, 299, 300, 10_000)]
        [0, 0, 1, 1, 2, 2]
    """
    if not isinstance(stages, Sequence) or isinstance(stages, str) or not stages:
        raise ValueError(
            "curriculum needs a list of (meta-updates, estimator) with a stage, got "
            f"{short(stages)}."
        )
    numbers, estimators = [], []
    for place, stage in enumerate(stages):
        if not (isinstance(stage, tuple | list) and len(stage) == 2):
            raise TypeError(
                f"A stage of a curriculum must be (meta-updates, estimator), got {short(stage)}."
            )
        number, estimator = stage
        check_crossing(f"curriculum's stage {place}", estimator)
        last = place == len(stages) - 1
        if not (last and number is None):
            number = check_positive_int(f"the meta-updates of curriculum's stage {place}", number)
        numbers.append(number)
        estimators.append(estimator)
    if len({_mesh(estimator) for estimator in estimators} - {None}) > 1:
        raise ValueError("The stages of a curriculum must have the same mesh, got several.")
    return Curriculum(stages=tuple(estimators), ends=tuple(itertools.accumulate(numbers[:-1])))


def _mesh(estimator: GradientEstimator) -> Mesh | None:
    return getattr(estimator, "mesh", None)


def _same(like: Any, other: Any) -> bool:
    """Whether two metrics have the same structure, shapes and dtypes."""
    if jax.tree.structure(like) != jax.tree.structure(other):
        return False
    pairs = zip(jax.tree.leaves(like), jax.tree.leaves(other), strict=True)
    return all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in pairs)
