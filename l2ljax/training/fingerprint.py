"""What decides a run, as JSON values: so that no run goes on in the directory of another.

Settings and data are taken by name, so that a sentence can say which of them differ; functions by
what they compute (`program`). Not in it: how many updates are asked for, how often is logged and
saved, and over which devices the tasks are spread.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
import optax
from jax.sharding import AbstractMesh, Mesh

from l2ljax.base import GradientEstimator, Key, MetaParams
from l2ljax.base.words import named_leaves
from l2ljax.checks import short, shorten
from l2ljax.parallel import TASKS, is_key, on_host
from l2ljax.storage.seal import seal, seal_json
from l2ljax.training.faults import Limits
from l2ljax.training.program import jaxpr_digest, program_digest
from l2ljax.training.step import MetaTrainState, init_state, meta_step, update_by, validate

DIGEST = "sha256 "
"""Begins what stands for an array, a long list or a function."""

LEFT_OUT = {"mesh", "shard_data"}
"""Fields of estimators that say on which devices they run; see `_data_parts` too."""

INITIAL = "the initial meta_params"

ESTIMATE = "what the estimator computes (its functions, or constants in them)"

UNSET = "(unset)"

CODE_IN_FILE = re.compile(r"(?:[^:]*/)?([^/:]+\.py:[\w.]+)")
"""`folder/file.py:attribute`."""

LONG = 100
"""Characters; of longer values the digest is kept."""


def fingerprint(
    estimator: GradientEstimator,
    meta_optimizer: optax.GradientTransformation,
    validation: Any,
    limits: Limits,
    validate_every: int,
    state: MetaTrainState,
    key: Key,
    meta_params: MetaParams | None,
) -> dict[str, Any]:
    """What decides the run that begins in `state`; without `meta_params`, from any weights."""
    alone = _on_one_device(estimator)
    if alone is not estimator:  # programs tell where their arguments are
        params = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), state.meta_params)
        state = jax.eval_shape(partial(init_state, alone, meta_optimizer), params, key)
    programs = {
        "meta_optimizer": program_digest(
            lambda params: update_by(
                meta_optimizer, params, meta_optimizer.init(params), params, lambda _: (0.0, params)
            ),
            state.meta_params,
        ),
        # Traced once: the first update finds it in JAX's cache.
        ESTIMATE: jaxpr_digest(meta_step.trace(alone, meta_optimizer, state).jaxpr),
    }
    found = {
        "versions": [lib.__version__ for lib in (jax, flax, optax)] + [jax.default_backend()],
        "key": DIGEST + _sum(key),
        "estimator": describe(estimator),
        "validation": None,
        "max_consecutive_skips": limits.max_consecutive_skips,
        "max_restores": limits.max_restores,
    }
    if validation is not None:
        found["validation"] = {**describe(validation), "every": validate_every}
        if getattr(validation, "mesh", None) is None:
            programs["what the validation computes"] = jaxpr_digest(
                validate.trace(validation, state).jaxpr
            )
    if meta_params is not None:
        sums = {name: _sum(leaf) for name, leaf in named_leaves(meta_params).items()}
        found[INITIAL] = DIGEST + seal_json(sums)
    return found | {"programs": {name: DIGEST + digest for name, digest in programs.items()}}


def check_same_run(workdir: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Refuses to go on with another run.

    `max_consecutive_skips` and `max_restores` may be raised: so a run that was stopped goes on.
    Programs are compared only where the libraries and the platform are those of then.

    Raises:
        ValueError: naming what differs.
    """
    old = {name: value for name, value in there.items() if name not in ("versions", "programs")}
    new = {name: value for name, value in here.items() if name not in ("versions", "programs")}
    for name in Limits._fields:
        if new[name] >= old[name]:
            old[name] = new[name]
    if INITIAL not in new:  # one that goes on need not know them
        old.pop(INITIAL, None)
    differ = list(_differences(without_folders(old), without_folders(new)))
    if there["versions"] == here["versions"]:
        was, is_ = there["programs"], here["programs"]
        changed = [f"{name} differs" for name in is_ if was.get(name, is_[name]) != is_[name]]
        # Where settings or the meta-optimizer differ, so do the other programs.
        meta_optimizer = [line for line in changed if line.startswith("meta_optimizer")]
        differ += meta_optimizer or ([] if differ else changed)
    if differ:
        raise ValueError(
            f"{workdir} holds another run: {shorten('; '.join(differ), 400)}. Give what it was "
            "started with to go on with it, or another workdir."
        )


def without_folders(value: Any) -> Any:
    """`value`, where names of code in files are those files' own names.

    The same file is called by another path where Python was started elsewhere; what its code
    computes is compared as programs.

    Example:
        >>> without_folders({"optimizer": {"name": "/home/ada/mine.py:rule"}, "steps": [1, 2]})
        {'optimizer': {'name': 'mine.py:rule'}, 'steps': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {name: without_folders(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(inner) for inner in value]
    if isinstance(value, str) and (found := CODE_IN_FILE.fullmatch(value)):
        return found[1]
    return value


def describe(value: Any) -> Any:
    """The settings and data in `value` as JSON values, without its functions.

    Example:
        >>> from l2ljax.training.validation import Validation
        >>> from l2ljax.optimizers import lstm
        >>> from l2ljax.tasks import quadratic
        >>> found = describe(Validation(
        ...     task=quadratic(), optimizer=lstm(), key=jax.random.key(0), num_tasks=2, num_steps=5
        ... ))
        >>> found["num_steps"], found["optimizer"]["name"]
        (5, 'lstm')
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value if len(repr(value)) <= LONG else DIGEST + seal_json(value)
    if isinstance(specification := getattr(value, "specification", None), Mapping):
        return describe(dict(specification))
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return DIGEST + _sum(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        told = describe({name: v for name, v in fields.items() if not _is_left_out(name, v)})
        return {"class": type(value).__qualname__, **told, **_data_parts(fields)}
    if isinstance(value, Mapping):
        return {str(name): describe(v) for name, v in value.items() if not _is_function(v)}
    if isinstance(value, tuple) and (fields := getattr(value, "_fields", None)):
        return describe(dict(zip(fields, value, strict=True)))
    if isinstance(value, tuple | list):
        told = [describe(v) for v in value if not _is_function(v)]
        return told if len(repr(told)) <= LONG else DIGEST + seal_json(told)
    if isinstance(value, type | np.dtype):
        return str(np.dtype(value)) if isinstance(value, np.dtype) else value.__qualname__
    leaves = named_leaves(value)
    if leaves.keys() == {"(root)"}:  # an object of which nothing is known but what it says
        said = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
        return {"class": type(value).__qualname__, "repr": said[:LONG]}
    told = {name: describe(leaf) for name, leaf in leaves.items() if not _is_function(leaf)}
    return {"class": type(value).__qualname__} | told


def _is_left_out(name: str, value: Any) -> bool:
    return name in LEFT_OUT and (value is None or isinstance(value, bool | Mesh | AbstractMesh))


def _data_parts(fields: Mapping[str, Any]) -> dict[str, int]:
    """Where devices have their own parts of the data, how many: it decides what tasks draw."""
    mesh, data = fields.get("mesh"), getattr(fields.get("task"), "data", ())
    parts = mesh.shape.get(TASKS, 1) if isinstance(mesh, Mesh | AbstractMesh) else 1
    is_split = fields.get("shard_data") and parts > 1 and jax.tree.leaves(data)
    return {"parts of the data": parts} if is_split else {}


def _is_function(value: Any) -> bool:
    return isinstance(value, Mesh) or (callable(value) and not isinstance(value, type))


def _sum(leaf: Any) -> str:
    """Of an array's shape, dtype and content; where other processes hold a part, without that."""
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        return seal_json([leaf.shape, str(leaf.dtype)])
    kind = str(leaf.dtype) if is_key(leaf) else ""
    return seal_json([kind, seal(on_host(leaf))])


def _on_one_device(value: Any) -> Any:
    """`value` without its meshes, and those of what is inside it."""
    if isinstance(value, Mesh):
        return None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields: Any = dataclasses.fields(value)
        old = {f.name: getattr(value, f.name) for f in fields if f.init}
        new = {name: _on_one_device(v) for name, v in old.items()}
        changed = {name: v for name, v in new.items() if v is not old[name]}
        return dataclasses.replace(value, **changed) if changed else value
    inside: Any = value
    if type(inside) is dict:
        new = {name: _on_one_device(v) for name, v in inside.items()}
        return new if any(new[name] is not inside[name] for name in new) else value
    if type(inside) in (tuple, list):
        items = list(inside)
        new = [_on_one_device(v) for v in items]
        same = all(a is b for a, b in zip(items, new, strict=True))
        return value if same else tuple(new) if type(value) is tuple else new
    return value


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """A sentence for each entry that differs; of what is another kind of thing, one."""
    if isinstance(old, Mapping) and isinstance(new, Mapping) and not _unlike(old, new):
        for field in {**old, **new}:
            inner = f"{name}.{field}" if name else field
            yield from _differences(old.get(field, UNSET), new.get(field, UNSET), inner)
    elif old != new:
        kinds = [v.get("class", "set") if isinstance(v, Mapping) else v for v in (old, new)]
        digests = any(isinstance(kind, str) and kind.startswith(DIGEST) for kind in kinds)
        there, here = (kind if isinstance(kind, str) else short(kind) for kind in kinds)
        yield f"{name} differs" if digests else f"{name} is {there} there, {here} here"


def _unlike(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether they are of different classes, or differently named parts."""
    return any(old.get(name) != new.get(name) for name in ("class", "name"))
