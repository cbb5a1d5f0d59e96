"""Who meets on the board: hand-made optimizers, tuned and untuned, and learned ones."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import jax
import optax

from l2ljax.base import Params, PyTree
from l2ljax.evaluation.optlist import OPTLIST, optlist

Group = Literal["tuned", "untuned", "learned", "published"]

RATES = tuple(float(f"{10 ** (i / 3):.3g}") for i in range(-15, 4))
"""1e-5 ... 10, three a decade: what each tuned optimizer is tuned over."""


class Contestant(NamedTuple):
    """One optimizer as the board runs it.

    Attributes:
        group: "tuned" on each task, "untuned", "learned" (bundled) or "published" by others.
        make: (learning rate, number of steps) -> additive transformation.
        rates: candidates; empty where there is nothing to tune.
        evaluated: (optimizer state, parameters) -> the parameters to be judged; default: as they
            are.
    """

    group: Group
    make: Callable[[Any, int], optax.GradientTransformation]
    rates: tuple[float, ...] = ()
    evaluated: Callable[[PyTree, Params], Params] | None = None


def _tuned(make: Callable[..., Any], **options: Any) -> Contestant:
    return Contestant("tuned", lambda rate, num_steps: make(rate), RATES, **options)


def _untuned(make: Callable[[int], Any]) -> Contestant:
    return Contestant("untuned", lambda rate, num_steps: make(num_steps))


def _adamw_cosine(rate: Any, num_steps: int) -> optax.GradientTransformation:
    return optax.adamw(optax.cosine_decay_schedule(rate, num_steps))


HAND_MADE: dict[str, Contestant] = {
    "sgd": _tuned(optax.sgd),
    "nag": _tuned(lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True)),
    "rmsprop": _tuned(optax.rmsprop),
    "adam": _tuned(optax.adam),
    "adamw-cosine": Contestant("tuned", _adamw_cosine, RATES),
    "lion": _tuned(optax.lion),
    "muon": _tuned(lambda rate: optax.contrib.muon(rate)),
    "schedule-free-adamw": _tuned(
        lambda rate: optax.contrib.schedule_free_adamw(rate),
        evaluated=optax.contrib.schedule_free_eval_params,
    ),
    "optlist-best-of-10": Contestant(
        "tuned", lambda entry, num_steps: optlist(int(entry), num_steps), tuple(range(len(OPTLIST)))
    ),
    "adam-1e-3": _untuned(lambda num_steps: optax.adam(1e-3)),
    "optlist-0": _untuned(lambda num_steps: optlist(0, num_steps)),
    "prodigy": _untuned(lambda num_steps: optax.contrib.prodigy()),
    "dog": _untuned(lambda num_steps: optax.contrib.dog()),
    "dowg": _untuned(lambda num_steps: optax.contrib.dowg()),
    "cocob": _untuned(lambda num_steps: optax.contrib.cocob()),
}
"""Optax's, and OptList's; "adam" is what all others are compared with."""


def by_rank(params: Params) -> PyTree:
    """ "matrix" for leaves of two axes and more, "vector" for the others."""
    return jax.tree.map(lambda leaf: "matrix" if leaf.ndim > 1 else "vector", params)


def celo2_as_published(scale: optax.GradientTransformation) -> Contestant:
    """Celo2 as its authors run it: a cosine from 0.01, and AdamW on what is no matrix.

    Args:
        scale: Celo2's direction in Optax's sign.
    """

    def make(rate: Any, num_steps: int) -> optax.GradientTransformation:
        del rate
        schedule = optax.cosine_decay_schedule(0.01, num_steps)
        matrix = optax.chain(scale, optax.scale_by_learning_rate(schedule))
        vector = optax.adamw(schedule, b2=0.95, weight_decay=0.0)
        return optax.partition({"matrix": matrix, "vector": vector}, by_rank)

    return Contestant("published", make)


def learned(names: Iterable[str]) -> dict[str, Contestant]:
    """Bundled optimizers by name, each as `l2ljax.pretrained` makes it."""
    from l2ljax.bundled import load_pretrained

    found = {}
    for name in names:
        optimizer, meta_params = load_pretrained(name)
        found[name] = Contestant(
            "learned", lambda rate, num_steps, o=optimizer, m=meta_params: o.transform(m)
        )
    return found
