"""Sets of trials by the names that `search_rule.py --trials=NAME` takes."""

from search_axes import CANVAS, HEADS, PICTURES, THICK
from search_trials import (
    ALL,
    BEGINNING,
    BROAD,
    DEEP,
    EARLY,
    ENDURING,
    FAR_HORIZONS,
    FIRST,
    HALVED,
    HORIZONS,
    LASTING,
    NOISY,
    OPENING,
    PAINTING,
    STEADY,
    WIDE,
)

SETS = {
    "first": FIRST,
    "halved": HALVED,
    "wide": WIDE,
    "early": EARLY,
    "opening": OPENING,
    "all": ALL,
    "lasting": LASTING,
    "steady": STEADY,
    "deep": DEEP,
    "enduring": ENDURING,
    "broad": BROAD,
    "noisy": NOISY,
    "horizons": HORIZONS,
    "far-horizons": FAR_HORIZONS,
    "beginning": BEGINNING,
    "painting": PAINTING,
    "thick": THICK,
    "heads": HEADS,
    "canvas": CANVAS,
    "pictures": PICTURES,
}
