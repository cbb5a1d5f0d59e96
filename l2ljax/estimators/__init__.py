"""Estimators of the meta-gradient: one file each, and one line each in `BUILDERS`."""

from collections.abc import Callable

from l2ljax.base import GradientEstimator
from l2ljax.estimators._curriculum import curriculum
from l2ljax.estimators._es import es
from l2ljax.estimators._full_es import full_es
from l2ljax.estimators._gpes import gpes
from l2ljax.estimators._imitation import imitation
from l2ljax.estimators._mixture import mixture
from l2ljax.estimators._nres import nres
from l2ljax.estimators._pes import pes
from l2ljax.estimators._truncated_bptt import truncated_bptt

BUILDERS: dict[str, Callable[..., GradientEstimator]] = {
    "curriculum": curriculum,
    "es": es,
    "full_es": full_es,
    "gpes": gpes,
    "imitation": imitation,
    "mixture": mixture,
    "nres": nres,
    "pes": pes,
    "truncated_bptt": truncated_bptt,
}
"""Name in configs -> builder. A new estimator adds its line here."""

__all__ = [
    "BUILDERS",
    "curriculum",
    "es",
    "full_es",
    "gpes",
    "imitation",
    "mixture",
    "nres",
    "pes",
    "truncated_bptt",
]
