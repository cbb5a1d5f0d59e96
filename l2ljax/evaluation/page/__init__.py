"""Pages that need no other file and no network: their parts, and interactive figures."""

from l2ljax.evaluation.page.interactive import Figure, Line, curve_traces, numbers, scripts
from l2ljax.evaluation.page.parts import block, code, data, definitions, details, frame, number
from l2ljax.evaluation.page.parts import table as html_table

__all__ = [
    "Figure",
    "Line",
    "block",
    "code",
    "curve_traces",
    "data",
    "definitions",
    "details",
    "frame",
    "html_table",
    "number",
    "numbers",
    "scripts",
]
