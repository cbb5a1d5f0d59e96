"""How a checkpoint lies in its file: as safetensors says, with what is sealed in the metadata."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from l2ljax.storage.seal import raw, seal, seal_json

FORMAT = 3
"""Raised when a checkpoint's content changes. 2, of Orbax, is read where Orbax is installed."""

DTYPES = {"bool": "BOOL", "bfloat16": "BF16"} | {
    str(np.dtype(code)): f"{kind}{8 * np.dtype(code).itemsize}"
    for kind, codes in {"F": "efd", "I": "bhiq", "U": "BHIQ"}.items()
    for code in codes
}
"""Names that safetensors has for dtypes; arrays of others are stored as bytes."""

Arrays = Iterable[tuple[str, np.ndarray]]


def write_file(file: BinaryIO, arrays: Arrays, shapes: Mapping[str, Any], extra: Any) -> None:
    """Header and arrays; the header once more, as long, when all checksums are known."""
    unknown = {name: (list(leaf.shape), str(leaf.dtype), "0" * 64) for name, leaf in shapes.items()}
    file.write(_header(unknown, extra))
    sealed = {}
    for name, array in arrays:
        sealed[name] = seal(array)
        file.write(raw(array).data)
    file.seek(0)
    file.write(_header(sealed, extra))


def _header(leaves: Mapping[str, Any], extra: Mapping[str, Any]) -> bytes:
    content = {"format": FORMAT, "extra": dict(extra), "leaves": leaves}
    said: dict[str, Any] = {"content": json.dumps(content), "sha256": seal_json(content)}
    header, end = {"__metadata__": said}, 0
    for name, (shape, dtype, _) in leaves.items():
        begin, end = end, end + math.prod(shape) * jnp.dtype(dtype).itemsize
        header[name] = {
            "dtype": DTYPES.get(dtype, "U8"),
            "shape": list(shape) if dtype in DTYPES else [end - begin],
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_file(path: Path) -> tuple[dict[str, Any], Arrays]:
    """What is said, and the arrays one after the other, by the order in which it names them."""
    whole = memoryview(path.read_bytes())
    begin = 8 + int.from_bytes(whole[:8], "little")
    said = json.loads(bytes(whole[8:begin]))["__metadata__"]
    content = json.loads(said["content"])

    def arrays(end=begin):
        for name, (shape, dtype, _) in content["leaves"].items():
            begin, end = end, end + math.prod(shape) * jnp.dtype(dtype).itemsize
            yield name, np.frombuffer(whole[begin:end], jnp.dtype(dtype)).reshape(shape)

    return {**content, "sha256": said["sha256"]}, arrays()
