"""What the learned optimizers of a comparison are called: each name once, and none a baseline's."""

from collections.abc import Iterable, Mapping
from typing import Any

from l2ljax.checks import short

LONGEST = 60
"""Characters of a name: it stands in a table and beside a curve."""


def own_name(optimizer: str, baselines: Iterable[str]) -> str:
    """What a run's own optimizer is called: of `"module:attribute"`, the attribute.

    Where that is a baseline's name it is called `learned NAME`.

    Example:
        >>> own_name("lstm", ["adam"]), own_name("mine.py:adam", ["adam"])
        ('lstm', 'learned adam')
    """
    name = optimizer.rpartition(":")[2].rpartition(".")[2] if ":" in optimizer else optimizer
    return f"learned {name}" if name in baselines else name


def check_beside(beside: Mapping[str, Any], own: str, baselines: Iterable[str]) -> None:
    """Refuses names for further optimizers that are taken, or that no table can show.

    Args:
        beside: name -> weights.
        own: what the run's own optimizer is called.
        baselines: their names.

    Raises:
        ValueError: naming the first such name.

    Example:
        >>> check_beside({"lstm-mnist": "lstm-mnist"}, "lstm", ["adam"])
        >>> check_beside({"adam": "lstm-mnist"}, "lstm", ["adam"])
        Traceback (most recent call last):
        ValueError: beside has the name 'adam', which a baseline has; give another name.
    """
    for name, weights in beside.items():
        if name == own or name in baselines:
            taken = "the run's own optimizer" if name == own else "a baseline"
            raise ValueError(
                f"beside has the name {short(name)}, which {taken} has; give another name."
            )
        if not (name.isprintable() and name[:1].isalnum() and len(name) <= LONGEST):
            raise ValueError(
                f"beside has the name {short(name)}; give one of at most {LONGEST} printable "
                "characters that begins with a letter or a digit."
            )
        if name != name.strip():
            raise ValueError(f"beside has the name {short(name)}; leave out the spaces around it.")
        if not isinstance(weights, str):
            raise ValueError(
                f"beside.{name} must name a bundled optimizer or a .safetensors file, got "
                f"{short(weights)}."
            )
