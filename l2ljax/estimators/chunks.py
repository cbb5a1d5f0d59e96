"""The backward pass over recorded gradients: chunks of coordinates, segments of steps.

A rollout keeps snapshots of the optimizer's states, one at the start of each segment of steps. The
backward pass then takes one chunk of coordinates at a time through the segments, last to first, and
carries the states' cotangents from each to the one before (Griewank & Walther 2000: checkpoints
that the forward pass leaves cost no forward pass of their own).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from l2ljax.base import MetaParams, PyTree
from l2ljax.estimators.columns import Columns, first_params, map_columns
from l2ljax.unrolling.remat import Remat, checkpointed_scan

Cut = Callable[[jax.Array], jax.Array]


def scan_with_snapshots(
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    init: PyTree,
    xs: PyTree,
    length: int,
    snapshot: Callable[[PyTree], PyTree],
) -> tuple[PyTree, PyTree, PyTree]:
    """`jax.lax.scan(step, init, xs)`, and `snapshot(carry)` before each segment of `length` steps.

    Returns:
        the last carry, the stacked ys, and the stacked snapshots, one a segment; the last segment
        may be shorter.
    """
    num_steps = jax.tree.leaves(xs)[0].shape[0]
    whole = num_steps // length * length

    def segment(carry, xs):
        kept = snapshot(carry)
        carry, ys = jax.lax.scan(step, carry, xs)
        return carry, (ys, kept)

    def joined(a, b):
        return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), a, b)

    segments = jax.tree.map(lambda x: x[:whole].reshape(-1, length, *x.shape[1:]), xs)
    carry, (ys, kept) = jax.lax.scan(segment, init, segments)
    ys = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), ys)
    if whole < num_steps:
        carry, (last_ys, last) = segment(carry, jax.tree.map(lambda x: x[whole:], xs))
        ys, kept = joined(ys, last_ys), joined(kept, jax.tree.map(lambda x: x[None], last))
    return carry, ys, kept


def vjp_over_chunks(
    group: Columns,
    meta_params: MetaParams,
    snapshots: PyTree,
    restart: jax.Array,
    gradients: jax.Array,
    cotangents: Callable[[Cut], jax.Array],
    *,
    dtype: Any,
    inside: tuple[jax.Array, jax.Array | None] | None = None,
    visit: jax.Array,
    segment_length: int,
    chunk_size: int,
    remat: Remat,
) -> MetaParams:
    """sum_{s, i} A_{s,i} * d u_{s,i} / dphi, a chunk of coordinates at a time.

    Args:
        group: whose updates u these are.
        meta_params: [phi].
        snapshots: the group's states before steps 0, `segment_length`, ..., stacked; coordinates'
            leaves are `[num_segments, ..., num_coordinates]`.
        restart: bool scalar; the first snapshot is a fresh state, which may depend on phi.
        gradients: `[num_steps, num_coordinates]`, what the updates were made from; for whole
            tensors `[num_steps, *shape, num_tensors]`, and so on for all that is per coordinate.
        cotangents: makes A, the updates' cotangents, `[num_steps, size of a chunk]`, from a
            function that cuts a chunk out of arrays `[..., num_coordinates]`.
        dtype: of the gradients that the rule was given; they may be held in fewer bits.
        inside: bool `[num_steps]`, before which steps the states are fresh ones of new episodes
            (which cuts the chain), and, of whole tensors, the parameters of each step that fresh
            states are made from; `None` for none.
        visit: bool `[num_tasks]`, of the tasks whose coordinates lie side by side; the others add
            0, whatever their numbers. In their place stand those of a task that is visited, since a
            rule may have no finite derivative at any number made up for them.
        segment_length, chunk_size, remat: see `l2ljax.estimators.plans.Plan`.
    """
    num_coordinates = gradients.shape[-1]
    num_chunks = -(-num_coordinates // chunk_size)
    size = -(-num_coordinates // num_chunks)
    tx = group.transform(meta_params)
    each = num_coordinates // visit.shape[0]
    stand_in = jnp.where(visit, jnp.arange(visit.shape[0]), jnp.argmax(visit))

    one_segment = _segment_vjp(group, meta_params, remat)

    def one_chunk(total, index):
        # The last chunk ends where the coordinates do, and leaves out those it shares with the one
        # before.
        first = jnp.minimum(index * size, num_coordinates - size)
        here = first + jnp.arange(size)
        visited = visit[here // each]
        is_new = here >= index * size

        def cut(leaf):
            return jax.lax.cond(
                visited.all(),
                lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, size, axis=-1),
                lambda leaf: jnp.take(leaf, stand_in[here // each] * each + here % each, axis=-1),
                leaf,
            )

        states = map_columns(group, tx, cut, snapshots)
        outer = jnp.where(is_new & visited, cotangents(cut), 0)
        chunk = cut(gradients).astype(dtype)
        # Steps are added to the last segment whose cotangents are 0: they change nothing. They
        # repeat a gradient, since a rule may have no finite derivative at any made up for them.
        padded = _in_segments(chunk, segment_length, "edge")
        outer = _in_segments(outer, segment_length, "constant")
        segments = (states, padded, outer, _cuts(inside, cut, segment_length))
        nothing = [jnp.zeros_like(leaf[0]) for leaf in _floats(states)]
        (total, state_cotangents), _ = jax.lax.scan(
            one_segment, (total, nothing), segments, reverse=True
        )
        like = first_params(group, states, chunk)
        _, vjp = jax.vjp(lambda phi: _floats(group.transform(phi).init(like)), meta_params)
        (grads,) = vjp([jnp.where(restart, ct, 0) for ct in state_cotangents])
        return jax.tree.map(jnp.add, total, grads), None

    zeros = jax.tree.map(jnp.zeros_like, meta_params)
    return jax.lax.scan(one_chunk, zeros, jnp.arange(num_chunks))[0]


def _cuts(inside: tuple[jax.Array, jax.Array | None] | None, cut: Cut, length: int) -> Any:
    """`inside` of one chunk, in segments."""
    if inside is None:
        return None
    restarts, begun = inside
    begun = None if begun is None else _in_segments(cut(begun), length, "edge")
    return _in_segments(restarts, length, "constant"), begun


def _in_segments(array: jax.Array, length: int, mode: str) -> jax.Array:
    """`[num_steps, ...]` -> `[num_segments, length, ...]`, filled up at the end."""
    missing = -array.shape[0] % length
    if missing:
        array = jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1), mode=mode)
    return array.reshape(-1, length, *array.shape[1:])


def _segment_vjp(group: Columns, meta_params: MetaParams, remat: Remat):
    """A scan's step over segments, last to first: adds a segment's part, passes cotangents on."""

    def segment_outputs(meta_params, floats, others, gradients, cuts):
        tx = group.transform(meta_params)

        def step(state, inputs):
            gradient, cut = inputs
            if cut is not None:
                restarts, begun = cut
                fresh = tx.init(gradient if begun is None else begun)
                state = jax.tree.map(
                    lambda new, old: jnp.where(restarts, new.astype(old.dtype), old), fresh, state
                )
            update, state = tx.update(gradient, state)
            return state, update

        start = _joined(floats, others)
        state, updates = checkpointed_scan(step, start, (gradients, cuts), remat=remat)
        return _floats(state), updates

    def one_segment(carry, segment):
        total, state_cotangents = carry
        state, gradients, cotangents, cuts = segment
        (_, updates), vjp = jax.vjp(
            lambda phi, floats: segment_outputs(phi, floats, state, gradients, cuts),
            meta_params,
            _floats(state),
        )
        grads, state_cotangents = vjp((state_cotangents, cotangents.astype(updates.dtype)))
        return (jax.tree.map(jnp.add, total, grads), state_cotangents), None

    return one_segment


def _is_float(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _floats(state: PyTree) -> list[jax.Array]:
    """The leaves that have a derivative: counters have none."""
    return [leaf for leaf in jax.tree.leaves(state) if _is_float(leaf)]


def _joined(floats: list[jax.Array], state: PyTree) -> PyTree:
    """`state` with `floats` as its floating leaves."""
    following = iter(floats)
    return jax.tree.map(lambda leaf: next(following) if _is_float(leaf) else leaf, state)
