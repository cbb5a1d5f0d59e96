"""How a recorded backward pass is cut: segments of steps, chunks of coordinates, what each keeps.

On a CPU a chunk is what a cache holds. An accelerator pays for every operation, however few
coordinates are in it, and is filled by some ten thousand: there a chunk is as large as a share of
its memory allows (docs/gpu.md).
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax

from l2ljax.base import PyTree
from l2ljax.unrolling.remat import Remat, steps_kept


class Budget(NamedTuple):
    """What a backward pass may keep on one kind of platform.

    Attributes:
        snapshot_bytes: of states that the rollout keeps.
        chunk_bytes: of what the backward pass over a segment of one chunk keeps.
        filling: coordinates; steps are computed again rather than chunks smaller than that.
        largest_chunk: coordinates.
        largest_chunk_of_parts: the same where devices share the coordinates.
        own_memory: whether each of those devices has a memory, and so these bytes, of its own.
    """

    snapshot_bytes: int
    chunk_bytes: int
    filling: int
    largest_chunk: int
    largest_chunk_of_parts: int
    own_memory: bool


LEAST_CHUNK = 256
"""Coordinates: each operation has its own overhead, on every platform."""

CPU = Budget(
    snapshot_bytes=20 * 2**20,
    chunk_bytes=8 * 2**20,  # part of a processor's last cache
    filling=LEAST_CHUNK,
    largest_chunk=2048,
    # Where a core is a device of its own, operations are not handed to threads, and it is small
    # (docs/performance.md).
    largest_chunk_of_parts=512,
    own_memory=False,
)

ACCELERATOR = Budget(
    snapshot_bytes=2**29,  # of a chunk's states there is a copy besides
    chunk_bytes=2**30,
    filling=2**16,
    largest_chunk=2**20,  # as many as one block of an update, see `l2ljax.optimizers.block_size`
    largest_chunk_of_parts=2**20,
    own_memory=True,
)

ACTIVATIONS = 4
"""Bytes that an LSTM's backward pass keeps of one step, for each byte of its state."""

TENSOR_ACTIVATIONS = 64
"""The same of a network of some forty features and two layers of 32 units a coordinate."""


def budget_on(platform: str) -> Budget:
    """For a platform as `l2ljax.parallel.platform.platform_of` names it."""
    return CPU if platform == "cpu" else ACCELERATOR


class Plan(NamedTuple):
    """How the backward pass goes.

    Attributes:
        segment_length: inner steps between two snapshots.
        chunk_sizes: coordinates at once, for each coordinate group.
        remats: what the backward pass over a segment keeps, for each group, see
            `l2ljax.unrolling.remat`.
    """

    segment_length: int
    chunk_sizes: tuple[int, ...]
    remats: tuple[Remat, ...]


def plan_chunks(
    states: tuple[PyTree, ...],
    num_steps: int,
    chunk_size: int | None = None,
    remat: Remat | Literal["auto"] = "auto",
    num_parts: int = 1,
    copies: int = 1,
    platform: str = "cpu",
    tensor_sizes: Sequence[int | None] | None = None,
) -> Plan:
    """As many snapshots as the platform's `Budget` holds, and chunks as large as fit it.

    Args:
        states: of each group, over the coordinates that the backward pass visits,
            `[..., num_coordinates]`; leaves without that axis count for nothing. May be shapes.
        num_steps: of the window.
        chunk_size: coordinates; `None` to choose.
        remat: "auto" to choose: every activation, else every step's state, else nested segments.
        num_parts: devices that share the coordinates.
        copies: of the pass that run side by side, and share the memory.
        platform: that the program is for.
        tensor_sizes: for each group, `None`, or the coordinates of a tensor where each column of
            its states is one; its chunks are then so many tensors, at least 1.
    """
    budget = budget_on(platform)
    leaves = [[leaf for leaf in jax.tree.leaves(state) if leaf.ndim] for state in states]
    total = sum(leaf.size * leaf.dtype.itemsize for group in leaves for leaf in group)
    sharing = copies if budget.own_memory else num_parts * copies
    snapshots = min(num_steps, max(1, budget.snapshot_bytes // (sharing * max(1, total))))
    length = -(-num_steps // snapshots)
    largest = budget.largest_chunk if num_parts == 1 else budget.largest_chunk_of_parts
    largest, chunk_bytes = max(1, largest // copies), budget.chunk_bytes // copies

    def plan_group(leaves: list[Any], size: int | None) -> tuple[int, Remat]:
        each, activations = (1, ACTIVATIONS) if size is None else (size, TENSOR_ACTIVATIONS)
        least = max(1, (chunk_size or LEAST_CHUNK // copies) // each)
        wanted = least
        if chunk_size is None:
            there = max((leaf.shape[-1] for leaf in leaves), default=1)
            wanted = max(least, min(budget.filling // copies // each, there))
        bytes_each = sum(x.dtype.itemsize * math.prod(x.shape[:-1]) for x in leaves) or 1
        kept: dict[Remat, int] = {  # bytes a column
            "none": length * activations * bytes_each,
            "step": length * bytes_each,
            "nested": steps_kept(length, "nested") * bytes_each,
        }
        choice: Remat = "nested"
        for name in reversed(kept):
            if kept[name] * wanted <= chunk_bytes:
                choice = name
        if remat != "auto":
            choice = remat
        fitting = max(least, chunk_bytes // kept[choice])
        return least if chunk_size else min(max(1, largest // each), fitting), choice

    tensor_sizes = tensor_sizes or [None] * len(leaves)
    plans = [plan_group(*group) for group in zip(leaves, tensor_sizes, strict=True)]
    sizes, remats = zip(*plans, strict=True) if plans else ((), ())
    return Plan(length, sizes, remats)
