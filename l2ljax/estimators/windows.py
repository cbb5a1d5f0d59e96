"""What the recorded backward pass starts from, and what the rollout leaves for it."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax

from l2ljax.base import Key, PyTree
from l2ljax.estimators.inside import Inside
from l2ljax.estimators.plans import Plan
from l2ljax.parallel.over_devices import ONE_PART, Parts
from l2ljax.unrolling import OptimizeeState
from l2ljax.unrolling.remat import Remat


class Options(NamedTuple):
    """How the backward pass goes.

    Attributes:
        coordinate_share: share of the coordinates that it visits.
        chunk_size: coordinates that it handles at once, or `None`.
        remat: what it keeps over a chunk, see `l2ljax.unrolling.remat`, or "auto"; both are chosen
            by `plan_chunks` where they are left open.
        record_dtype: of the recorded gradients; `None`: their own.
        parts: of the coordinates, where several devices run the same optimizees.
        copies: of the pass that run side by side, and share what one may keep.
        platform: that the program is for.
    """

    coordinate_share: float = 1.0
    chunk_size: int | None = None
    remat: Remat | Literal["auto"] = "auto"
    record_dtype: jax.typing.DTypeLike | None = None
    parts: Parts = ONE_PART
    copies: int = 1
    platform: str = "cpu"

    @property
    def of_plan(self) -> tuple[int | None, Remat | Literal["auto"], int, int, str]:
        """What `plan_chunks` is given."""
        return self.chunk_size, self.remat, self.parts.number, self.copies, self.platform


WHOLE = Options()


class Window(NamedTuple):
    """What a window starts from.

    Attributes:
        optimizees: leaves `[num_tasks, ...]`; `opt_state` as `init_group_states` makes it.
        keys: `[num_tasks]`, for the minibatches.
        share_keys: `[num_tasks]`, for the choice of the coordinates that are visited.
        weights: `[num_steps]`, w_t of the window's steps.
        restart: bool scalar; start from fresh optimizer states instead of the given ones.
        inside: where other episodes begin in the window; `None`: nowhere.
    """

    optimizees: OptimizeeState
    keys: Key
    share_keys: Key
    weights: jax.Array
    restart: jax.Array
    inside: Inside | None = None


class Recording(NamedTuple):
    """What the rollout leaves for the backward pass; lists have an entry a coordinate group.

    Attributes:
        instance, params: after the window [theta_T], leaves `[num_tasks, ...]`.
        states: after the window, whole.
        losses: float32 `[num_tasks, num_steps + 1]`.
        gradients: `[num_steps, num_tasks * visited]`, what the updates were made from.
        before: the same before restarts inside the window: of the final parameters of the episodes
            that end there. Without restarts these are the `gradients`.
        begun: of whole tensors, the parameters after restarts, likewise; else `None`.
        last: `[num_tasks * visited]`, at the final parameters.
        snapshots: states of the visited coordinates at the start of each segment of steps.
        share_weights: inverse probabilities of the visited coordinates, `[num_tasks, visited]`.
        plan: of the backward pass.
    """

    instance: PyTree
    params: PyTree
    states: tuple[PyTree, ...]
    losses: jax.Array
    gradients: list[jax.Array]
    before: list[jax.Array]
    begun: Sequence[jax.Array | None]
    last: list[jax.Array]
    snapshots: list[PyTree]
    share_weights: list[jax.Array]
    plan: Plan
