"""How many coordinates of a parameter are updated at once, as an argument."""

from typing import Any, Literal, NamedTuple

from l2ljax.optimizers.lengths import checked_length, refuse_array
from l2ljax.parallel.platform import platform_of

BlockSize = int | None | Literal["default"]
"""The default has a name: it is the platform's, and of a number `optax.inject_hyperparams` would
make an array."""


class BlockSizes(NamedTuple):
    """What "default" stands for: on a CPU what its caches hold, elsewhere what fills the device."""

    cpu: int
    accelerator: int

    def on(self, platform: str) -> int:
        """For a platform as `platform_of` names it."""
        return self.cpu if platform == "cpu" else self.accelerator


def checked_block_size(block_size: Any) -> BlockSize:
    """`block_size`, as it was given.

    Raises:
        ValueError: for anything but a positive integer, `None` and "default".
    """
    refuse_array("block_size", block_size)
    if block_size is not None and block_size != "default":
        checked_length("block_size", block_size)
    return block_size


def chosen_block_size(block_size: BlockSize, defaults: BlockSizes) -> int | None:
    """What is taken in the update that is being traced: an explicit size, or the platform's.

    Example:
        >>> defaults = BlockSizes(cpu=4, accelerator=64)
        >>> defaults.on("cpu"), defaults.on("gpu"), chosen_block_size(7, defaults)
        (4, 64, 7)
    """
    return defaults.on(platform_of()) if block_size == "default" else block_size
