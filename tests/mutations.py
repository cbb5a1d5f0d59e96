"""Configurations that went wrong: one to three entries of a good one changed at random."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from l2ljax.checks import short


def nested(depth: int) -> list:
    """`[[[...]]]`"""
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


WEIRD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 7, 2**31 - 1, 2**31, 2**63, 10**400, -(10**18),
    0.5, 2.0, -0.0, 1e-300, 1e30, 1e300, float("nan"), float("inf"), -float("inf"),
    "", "all", "adam", "lstm", "quadratic", "digits", "NaN", "1", "x" * 5000, "a\nb", "\0", "ü",
    "../../config.json", "__import__('os').abort()", "!!python/object:os.abort",
    [], [1], [0], [-1], [1, [2]], [[]], [None], ["x"], [2.5], [2**40], [1] * 200, nested(40),
    {}, {"name": None}, {"name": "lstm"}, {"name": "quadratic"}, {"name": {"name": "lstm"}},
    {"": ""}, {"name": ["lstm"]}, {1: 2}, nested(5000),
    b"bytes", {1, 2}, object(), 1j, np.float32(1.5), np.int64(2), np.zeros(2), len, range(3), type,
]  # fmt: skip
"""What a field may be set to, most of it by nobody in their right mind."""

NAMES = [
    "name",
    "dim",
    "seed",
    "steps",
    "hidden_sizes",
    "labels",
    "mesh",
    "weights",
    "key",
    "",
    "ü",
]


def mutate(config: dict[str, Any], draw: random.Random) -> tuple[Any, list[str]]:
    """A changed copy of `config`, and what was changed, as `path: how` for the record."""
    config = copy.deepcopy(config)
    if draw.random() < 0.02:
        value = draw.choice(WEIRD)
        return value, [f"(configuration): is {short(value, 60)}"]
    changes = []
    for _ in range(draw.choice([1, 1, 1, 1, 2, 3])):
        places = list(_places(config, ()))
        if places:
            path = draw.choice(places)
            changes.append(f"{'.'.join(map(str, path))}: {_change(config, path, draw)}")
    return config, changes


def _places(value: Any, path: tuple) -> Iterator[tuple]:
    """Paths of all entries of nested dicts."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from _places(inner, (*path, key))


def _change(config: dict, path: tuple, draw: random.Random) -> str:
    for key in path[:-1]:
        config = config[key]
    key, old = path[-1], config[path[-1]]
    how = draw.choice(["weird", "weird", "weird", "weird", "drop", "add", "rename", "near", "near"])
    if how == "drop":
        del config[key]
    elif how == "add":
        name = draw.choice([*NAMES, 3, None])
        config[name] = draw.choice(WEIRD)
        how = f"added {name!r} = {short(config[name], 60)}"
    elif how == "rename":
        name = "".join(draw.sample(str(key), len(str(key))))
        config[name] = config.pop(key)
        how = f"renamed {name!r}"
    else:
        config[key] = _near(old, draw) if how == "near" else draw.choice(WEIRD)
        how = f"is {short(config[key], 60)}"
    return how


def _near(value: Any, draw: random.Random) -> Any:
    """A value of nearly the right kind."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int | float):
        return draw.choice([-value, value + 0.5, value * 10**6, str(value), [value], value + 1])
    if isinstance(value, str):
        letters = list(value) or ["x"]
        letters[draw.randrange(len(letters))] = draw.choice("abcxyz-_ ")
        return draw.choice(["".join(letters), value.upper(), value + " ", [value], value.encode()])
    if isinstance(value, list | tuple):
        return draw.choice([list(value) * 2, [*value, "x"], [*value, -1], list(value)[1:], value])
    return draw.choice([[value], list(value), str(value)])
