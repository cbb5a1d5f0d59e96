"""Values from plain data, and plain data from values: names of parts, and their arguments."""

from l2ljax.specification.building import (
    call_with,
    check_arguments,
    check_mapping,
    find_builder,
    specified,
)
from l2ljax.specification.plain import Specification

__all__ = [
    "Specification",
    "call_with",
    "check_arguments",
    "check_mapping",
    "find_builder",
    "specified",
]
