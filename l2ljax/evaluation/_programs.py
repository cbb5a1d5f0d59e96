"""Compiled programs that live as long as the functions they were made of.

`jax.jit` keeps whatever it was given as a static argument, and the program made of it, for ever. An
evaluation is made of functions that come and go (a transformation with its constants, a task's
loss), so here each program knows them weakly: when one of them is collected, the program goes too.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax

MOST_KEPT = 128
"""Programs; the one used longest ago makes room."""

_KEPT: OrderedDict[Hashable, Any] = OrderedDict()


def program(
    function: Callable[..., Any], parts: Sequence[Any], settings: tuple[Hashable, ...]
) -> Callable[..., Any]:
    """`function(parts, settings, *arrays)`, compiled, as a function of the arrays.

    The same one for the very same parts and equal settings, as long as all parts live. The parts
    must live while it is called.

    Args:
        function: of this package's own, pure.
        parts: functions or other values that it is made of; they are compared by identity.
        settings: plain values that it is made of.

    Example:
        >>> def scaled(parts, settings, x):
        ...     return parts[0](x) * settings[0]
        >>> twice = lambda x: x + x
        >>> made = program(scaled, [twice], (3,))
        >>> float(made(1.0)), made is program(scaled, [twice], (3,))
        (6.0, True)
    """
    key = (function, settings, *map(id, parts))
    if key in _KEPT:
        _KEPT.move_to_end(key)
        return _KEPT[key]
    references = [_reference(part, lambda _: _KEPT.pop(key, None)) for part in parts]

    def call(*arrays):
        return function([reference() for reference in references], settings, *arrays)

    _KEPT[key] = made = jax.jit(call)
    while len(_KEPT) > MOST_KEPT:
        _KEPT.popitem(last=False)
    return made


def num_kept() -> int:
    """Programs that are kept at present."""
    return len(_KEPT)


def _reference(part: Any, when_gone: Callable[[Any], Any]) -> Callable[[], Any]:
    """Weak, for all but numbers, tuples and the like."""
    try:
        return weakref.ref(part, when_gone)
    except TypeError:
        return lambda: part
