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


def mutate(config: dict[str, Any], draw: random.Random) -> tuple[Any, list[str], list[str]]:
    """A changed copy of `config`; what was changed, as `path: how`; and the names of the culprits,
    one of which a refusal must have in its sentence."""
    config = copy.deepcopy(config)
    if draw.random() < 0.02:
        value = draw.choice(WEIRD)
        return value, [f"(configuration): is {short(value, 60)}"], ["configuration"]
    changes, culprits = [], []
    for _ in range(draw.choice([1, 1, 1, 1, 2, 3])):
        places = list(_places(config, ()))
        if places:
            path = draw.choice(places)
            how, name = _change(config, path, draw)
            changes.append(f"{'.'.join(map(str, path))}: {how}")
            culprits += [str(name) or "''", *map(str, path)]
    return config, changes, [culprit for culprit in culprits if culprit]


def _places(value: Any, path: tuple) -> Iterator[tuple]:
    """Paths of all entries of nested dicts."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from _places(inner, (*path, key))


def _change(config: dict, path: tuple, draw: random.Random) -> tuple[str, Any]:
    """How the entry at `path` was changed, and the name of the entry that is there now."""
    for key in path[:-1]:
        config = config[key]
    key, old = path[-1], config[path[-1]]
    name = key
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
    return how, name


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
    return draw.choice([[value], [*value] if isinstance(value, dict) else 0, str(value)])
