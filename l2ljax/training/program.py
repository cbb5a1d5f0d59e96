"""SHA-256 of what a function computes: of its jaxpr, with the values of every constant in it.

Functions cannot be compared, but what JAX traces of them can: operations, shapes, numbers such as a
learning rate, arrays they close over. The digest does not depend on names, the process, or the
order of sets. It sees what is traced and no more: not what a host callback does. Another version of
JAX, or of a library that is traced, may give the same function another.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from l2ljax.parallel import on_host
from l2ljax.storage.seal import seal

UNTOLD = {"name", "debug_info", "jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd", "callback"}
"""Parameters of operations that name Python objects and decide no number."""


def program_digest(function: Callable[..., Any], *args: Any) -> str:
    """The digest of `function` traced on `args`, arrays or their shapes; nothing is computed.

    Example:
        >>> def scaled(factor):
        ...     return lambda x: factor * x
        >>> program_digest(scaled(2.0), 1.0) == program_digest(scaled(2.0), 1.0)
        True
        >>> program_digest(scaled(2.0), 1.0) == program_digest(scaled(3.0), 1.0)
        False
    """
    return jaxpr_digest(jax.make_jaxpr(function)(*args))


def jaxpr_digest(closed: Any) -> str:
    """The digest of a closed jaxpr."""
    return _Digests().closed(closed)


class _Digests:
    """Of jaxprs inside one another; each is gone through once."""

    def __init__(self):
        self._known: dict[int, tuple[Any, str]] = {}  # keeps what the ids are of

    def closed(self, closed: Any) -> str:
        if id(closed) not in self._known:
            consts = [_constant(const) for const in closed.consts]
            self._known[id(closed)] = closed, _sha([self.open(closed.jaxpr), *consts])
        return self._known[id(closed)][1]

    def open(self, jaxpr: Any) -> str:
        if id(jaxpr) not in self._known:
            self._known[id(jaxpr)] = jaxpr, _sha(self._lines(jaxpr))
        return self._known[id(jaxpr)][1]

    def _lines(self, jaxpr: Any) -> Iterable[str]:
        numbers: dict[Any, int] = {}

        def told(atom: Any) -> str:
            is_literal = hasattr(atom, "val")
            what = _constant(atom.val) if is_literal else numbers.setdefault(atom, len(numbers))
            return f"{what}:{atom.aval.str_short()}"

        yield " ".join(map(told, [*jaxpr.constvars, *jaxpr.invars]))
        for eqn in jaxpr.eqns:
            given = " ".join(map(told, eqn.invars))
            params = {name: p for name, p in eqn.params.items() if name not in UNTOLD}
            made = " ".join(map(told, eqn.outvars))
            yield f"{made} = {eqn.primitive.name}[{self._parameter(params)}] {given}"
        yield " ".join(map(told, jaxpr.outvars))

    def _parameter(self, value: Any) -> str:
        if hasattr(value, "eqns"):
            return self.closed(value) if hasattr(value, "consts") else self.open(value)
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{k}={self._parameter(value[k])}" for k in sorted(value)) + "}"
        if isinstance(value, set | frozenset):
            return "{" + ", ".join(sorted(map(self._parameter, value))) + "}"
        if isinstance(value, tuple | list):
            return "(" + ", ".join(map(self._parameter, value)) + ")"
        if isinstance(value, np.ndarray | np.generic | jax.Array):
            return _constant(value)
        if callable(value) and not isinstance(value, type):
            return type(value).__name__
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _constant(value: Any) -> str:
    if np.ndim(value) == 0 and not hasattr(value, "dtype"):
        return repr(value)
    array = on_host(value)
    if array.dtype.hasobject or not array.dtype.itemsize:  # Python objects, or tangents of integers
        return f"{array.dtype}{array.shape}"
    return repr(seal(array))


def _sha(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
