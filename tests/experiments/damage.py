"""What disks and copies do to files: a byte changed, an end cut off, a file gone."""

import random
from collections.abc import Callable
from pathlib import Path


def flip(path: Path, draw: random.Random) -> None:
    """Changes one bit; an empty file is left alone."""
    content = bytearray(path.read_bytes())
    if content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)


def cut(path: Path, draw: random.Random) -> None:
    """Drops the end, one byte at least."""
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(max(1, len(content)))])


def overwrite(path: Path, draw: random.Random) -> None:
    """Replaces up to 64 bytes by random ones."""
    content = bytearray(path.read_bytes())
    length = min(len(content), draw.randint(1, 64))
    start = draw.randrange(len(content) - length + 1)
    content[start : start + length] = draw.randbytes(length)
    path.write_bytes(content)


def remove(path: Path, draw: random.Random) -> None:
    """Deletes the file."""
    del draw
    path.unlink()


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "flip": flip,
    "cut": cut,
    "overwrite": overwrite,
    "remove": remove,
}
