"""Plain data from values: what a specification may hold.

A specification is a dict of JSON values: a `name`, and the arguments of the builder so called.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from l2ljax.checks import short
from l2ljax.specification.names import NotPlainError, name_of


class Specification(Mapping[str, Any]):
    """A dict of JSON values that hashes and compares by its content, so jit can take it as static.

    Example:
        >>> Specification({"name": "lstm", "hidden_sizes": (8,)}) == {
        ...     "name": "lstm", "hidden_sizes": [8]
        ... }
        True
    """

    def __init__(self, data: Mapping[str, Any]):
        self._text = json.dumps(dict(data), sort_keys=True, allow_nan=False)
        self.builder: Callable[..., Any] | None = None
        self._made: tuple[Any, ...] = ()

    def made_by(self, builder: Callable[..., Any] | None, value: Any) -> Any:
        """`value`, a NamedTuple, with this specification, which knows from now on whose it is.

        Raises:
            TypeError: for a value without a field `specification`.
        """
        if "specification" not in getattr(value, "_fields", ()):
            raise TypeError(
                "A specified builder must return a LearnedOptimizer, or another NamedTuple with a "
                f"field specification, got {short(value)}."
            )
        value = value._replace(specification=self)
        self.builder, self._made = builder, tuple(value)
        return value

    def describes(self, value: Any) -> bool:
        """Whether `value` is as the builder made it, but for fields that are None by now."""
        if not self._made:  # no NamedTuple of a specified builder
            return True
        return len(self._made) == len(value) and all(
            new is None or new is old for new, old in zip(value, self._made, strict=True)
        )

    def __getitem__(self, key: str) -> Any:
        return json.loads(self._text)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(json.loads(self._text))

    def __len__(self) -> int:
        return len(json.loads(self._text))

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        try:
            return (
                self._text
                == (other if isinstance(other, Specification) else Specification(other))._text
            )
        except (TypeError, ValueError, RecursionError):  # no JSON
            return False

    def __repr__(self) -> str:
        return repr(json.loads(self._text))


def specification_of(value: Any) -> Specification | None:
    """The plain data that rebuilds `value`; `None` if it has none, or was changed since.

    Example:
        >>> from l2ljax.optimizers import lstm
        >>> specification_of(lstm((8,)))["hidden_sizes"]
        [8]
        >>> specification_of(lstm((8,))._replace(init=lambda key: 0.0))
    """
    given = getattr(value, "specification", None)
    if not isinstance(given, Mapping):
        return None
    if isinstance(given, Specification):
        return given if given.describes(value) else None
    return Specification(given)


def as_plain(value: Any, live: list[Any] | None = None) -> Any:
    """`value` as JSON values; functions as `{"function": "module:attribute"}`.

    Args:
        value: JSON values, tuples, NumPy scalars, dtypes, values with a `specification`, frozen
            dataclasses, functions that can be found by name, and dicts and lists of those.
        live: the functions met, and the values with a specification, are appended to it.

    Raises:
        NotPlainError: for anything else; for numbers that are not finite; and for dicts that would
            read as a specification (with an entry `name`) or as a function.

    Example:
        >>> as_plain({"rates": (1.0, np.float32(0.5)), "dtype": np.float32})
        {'rates': [1.0, 0.5], 'dtype': 'float32'}
    """
    live = [] if live is None else live
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(getattr(value, "specification", None), Mapping):
        live.append(value)
        if (specification := specification_of(value)) is None:
            raise NotPlainError(f"{short(value)} was changed after its builder had made it")
        return dict(specification)
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if isinstance(dtype := getattr(value, "dtype", None), np.dtype) and callable(value):
        return dtype.name  # jax.numpy's scalar types
    if isinstance(value, np.generic):
        return as_plain(value.item())
    if isinstance(value, Mapping):
        readable = all(isinstance(key, str) for key in value)
        if readable and "name" not in value and set(value) != {"function"}:
            # `live` in the order of the sorted text, whichever order the entries come in
            entries = {key: as_plain(value[key], live) for key in sorted(value)}
            return {key: entries[key] for key in value}
    elif isinstance(value, list | tuple) and type(value) in (list, tuple):
        return [as_plain(inner, live) for inner in value]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain_dataclass(value, live)
    elif callable(value):
        live.append(value)
        return {"function": name_of(value)}
    raise NotPlainError(f"{short(value)} is not plain data")


def _plain_dataclass(value: Any, live: list[Any]) -> dict[str, Any]:
    kind = type(value)
    if not kind.__dataclass_params__.frozen or "name" in kind.__dataclass_fields__:
        raise NotPlainError(f"{short(value)} is no frozen dataclass")
    fields = [field.name for field in dataclasses.fields(value) if field.init]
    live.append(value)
    return {"name": name_of(kind)} | {f: as_plain(getattr(value, f), live) for f in fields}
