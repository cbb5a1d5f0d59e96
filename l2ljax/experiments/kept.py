"""What an evaluation has finished, on disk until all is: so that one that was cut goes on.

Each tuned learning rate and each optimizer's results are a file of their own, which holds a digest
of what decides them: the task and its data, the random key, how much is run, the optimizer's
meta-parameters and what it computes, the versions of the libraries. What does not fit is not used.
"""

import contextlib
import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
import optax
import safetensors
import safetensors.numpy

from l2ljax.base import Key, MetaParams, Task
from l2ljax.evaluation import Curve, Stage, Tuning
from l2ljax.evaluation._rollouts import is_pair
from l2ljax.storage.seal import seal_json
from l2ljax.storage.workdir import make_directory, write_atomically
from l2ljax.training.fingerprint import describe
from l2ljax.training.program import program_digest
from l2ljax.unrolling import init_optimizee, unroll

ARRAYS = ("losses", "accuracy", "expected_loss", "clusters")
"""Fields of a `Curve`; any but the first may be `None`."""


class Kept:
    """The finished stages of a comparison, in a folder.

    Args:
        folder: made when the first is kept.
        key: of the comparison.
        more: what else decides all results, JSON values by name.
    """

    def __init__(self, folder: str | Path, key: Key, more: Mapping[str, Any]):
        self.folder, self.key = Path(folder), key
        self.more = {**more, "key": describe(key), "versions": _versions()}

    def find(self, stage: Stage) -> Curve | Tuning | None:
        """The result of a stage that was finished before, if it is of the very same work."""
        try:
            with safetensors.safe_open(self._path(stage), "numpy") as file:
                said = file.metadata() or {}
                if said.get("fingerprint") != self._fingerprint(stage):
                    return None
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return _read(json.loads(said["result"]), arrays)
        except (OSError, ValueError, KeyError, safetensors.SafetensorError):
            return None  # none yet, or damaged: it is computed anew

    def keep(self, stage: Stage, result: Curve | Tuning) -> None:
        """Writes the result of a stage in the place of what was kept under its name."""
        make_directory(self.folder)
        told, arrays = _written(result)
        metadata = {"fingerprint": self._fingerprint(stage), "result": json.dumps(told)}
        write_atomically(self._path(stage), safetensors.numpy.save(arrays, metadata))

    def _path(self, stage: Stage) -> Path:
        """Names may have any characters, and differ in case alone."""
        readable = re.sub(r"[^\w.-]+", "_", stage.name)
        digest = hashlib.sha256(stage.name.encode()).hexdigest()[:8]
        return self.folder / f"{stage.work}-{readable}-{digest}.safetensors"

    def _fingerprint(self, stage: Stage) -> str:
        of = stage.optimizer
        meta_params = describe(of[1]) if is_pair(of) else None
        parts = {"task": describe(stage.task), "meta_params": meta_params, "work": stage.work}
        return seal_json({**self.more, **parts, **stage.settings, "program": _program(stage)})


def forget(folder: str | Path) -> None:
    """Removes what was kept in a folder, and the folder unless something else is in it.

    Example:
        >>> forget("evaluation/unfinished")  # where there is none, too
    """
    for work in ("tuning", "evaluating"):
        for path in Path(folder).glob(f"{work}-*-{'[0-9a-f]' * 8}.safetensors"):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        Path(folder).rmdir()


def _versions() -> list[str]:
    """Of what may change the last bits."""
    libraries = [jax.__version__, flax.__version__, optax.__version__]
    own = sys.modules["l2ljax"].__version__
    return [*libraries, own, jax.default_backend(), jax.devices()[0].device_kind]


def _program(stage: Stage) -> str:
    """What the task's functions and the optimizer compute, told by one inner step."""
    if is_pair(stage.optimizer):
        optimizer, meta_params = stage.optimizer
        return _digest(stage.task, optimizer.transform, meta_params)
    rates = stage.settings["learning_rate"]
    if rates is None:
        return _digest(stage.task, lambda _: stage.optimizer, ())
    ends = [rates[0], rates[-1]] if isinstance(rates, list) else [rates]
    # Of candidates, two tell whatever depends on the rate; some makers want Python's floats.
    return " ".join(_digest(stage.task, lambda _, r=r: stage.optimizer(r), ()) for r in ends)


def _digest(task: Task, make: Callable[[Any], Any], meta_params: MetaParams) -> str:
    def step(task: Task, meta_params: MetaParams, key: Key) -> Any:
        tx = make(meta_params)
        return unroll(task, tx, init_optimizee(task, tx, key), key, 1)

    given = task, meta_params, jax.random.key(0)
    # The first trace in a process may hold what only fills a cache: it is not the one to digest.
    jax.eval_shape(lambda *given: step(*given), *given)
    return program_digest(step, *given)


def _written(result: Curve | Tuning) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if isinstance(result, Tuning):
        return {"tuning": result._asdict()}, {}
    arrays = {name: getattr(result, name) for name in ARRAYS}
    there = {name: np.ascontiguousarray(a) for name, a in arrays.items() if a is not None}
    return {"learning_rate": result.learning_rate}, there


def _read(told: Mapping[str, Any], arrays: Mapping[str, Any]) -> Curve | Tuning:
    if "tuning" in told:
        fields = {name: _tuple(value) for name, value in told["tuning"].items()}
        return Tuning(**fields)
    return Curve(told["learning_rate"], **arrays)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # JSON has no tuples
