"""Who meets on the board: hand-made optimizers, tuned and untuned, and learned ones."""

import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import optax

from l2ljax.base import Params, PyTree
from l2ljax.evaluation.optlist import OPTLIST, optlist
from l2ljax.optimizers import build, load_published, scale_by_celo2
from l2ljax.specification.plain import specification_of

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


def published(folder: str | os.PathLike) -> dict[str, Contestant]:
    """Other people's learned optimizers, each run as its authors say.

    Celo2 has a cosine from 0.01, and Adam serves what is no matrix; `celo2-decay` is the same with
    the weight decay of its authors' example. Celo and Celo-Adam are told the number of steps; the
    LSTM of rtaiello has been trained for 100 steps, that of aml with its state zeroed every 20.

    Args:
        folder: where `celo2.npz` and the like are, arrays under their authors' names; those that
            are missing take no part.
    """
    found = {}
    for name, (file, kind, options, make) in _PUBLISHED.items():
        path = Path(folder) / f"{file}.npz"
        if path.exists():
            found[name] = Contestant("published", functools.partial(make, kind, path, options))
    return found


def _plain(kind, path, options, rate, num_steps):
    del rate
    optimizer, weights = _loaded(kind, path, num_steps if kind in _TOLD else None, options)
    return optimizer.transform(weights)


def _celo2(kind, path, options, rate, num_steps):
    del rate
    schedule = optax.cosine_decay_schedule(0.01, num_steps)
    optimizer, weights = _loaded(kind, path, None, options)
    return optax.chain(optimizer.transform(weights), optax.scale_by_schedule(schedule))


def _celo2_decay(kind, path, options, rate, num_steps):
    """As in the README of amoudgl/celo2, all parameters of one rate; 0.1 is of their example."""
    del rate
    schedule = optax.cosine_decay_schedule(0.01, num_steps)
    _, weights = _loaded(kind, path, None, options)
    return optax.chain(
        scale_by_celo2(weights, vectors="adam"),
        optax.add_decayed_weights(0.1),
        optax.scale_by_learning_rate(schedule),
    )


@functools.lru_cache(maxsize=16)
def _loaded(kind, path, num_steps, options):
    told = {} if num_steps is None else {"num_steps": num_steps}
    with jax.ensure_compile_time_eval():  # arrays that outlast the program being traced
        return load_published(kind, path, **dict(options), **told)


_TOLD = ("celo", "celo-adam")
_PUBLISHED = {
    "celo": ("celo", "celo", (), _plain),
    "celo-adam": ("celo-adam", "celo-adam", (), _plain),
    "celo2": ("celo2", "celo2", (("learning_rate", 1.0),), _celo2),
    "celo2-decay": ("celo2", "celo2", (), _celo2_decay),
    "rnnprop-mean-1": ("rnnprop-mean-1", "rnnprop", (), _plain),
    "rtaiello-mnist-cw": ("rtaiello-mnist-cw", "l2l", (), _plain),
    "aml-mnist-cw": ("aml-mnist-cw", "l2l", (("reset_every", 20),), _plain),
}


def learned(names: Iterable[str]) -> dict[str, Contestant]:
    """Bundled optimizers by name, each as `l2ljax.pretrained` makes it.

    One that is told the number of steps is told that of its cell.
    """
    from l2ljax.bundled import load_pretrained

    found = {}
    for name in names:
        optimizer, meta_params = load_pretrained(name)
        make = functools.partial(_told, specification_of(optimizer), meta_params)
        found[name] = Contestant("learned", make)
    return found


def _told(specification, meta_params, rate, num_steps):
    del rate
    told = {"num_steps": num_steps} if specification.get("num_steps") else {}
    return build({**specification, **told}).transform(meta_params)
