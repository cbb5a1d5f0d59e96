"""Integers that become part of what is compiled, and so cannot be injected."""

from typing import Any

import jax

from l2ljax.checks import check_positive_int


def refuse_array(name: str, value: Any) -> None:
    """Refuses an array, which `optax.inject_hyperparams` makes of every number.

    Raises:
        ValueError: naming the argument and what keeps it as it is.
    """
    if isinstance(value, jax.Array):
        raise ValueError(
            f"{name} must be an integer that is known when the step is compiled, got an array; "
            f'for optax.inject_hyperparams add static_args="{name}".'
        )


def checked_length(name: str, value: Any, minimum: int = 1) -> int:
    """`value` as an int of at least `minimum`.

    Raises:
        ValueError: for anything else, an array of one integer included.

    Example:
        >>> checked_length("num_steps", 100)
        100
    """
    refuse_array(name, value)
    return check_positive_int(name, value, minimum=minimum)
