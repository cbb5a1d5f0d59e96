"""Trained meta-parameters in files: a learned optimizer written, read and rebuilt.

A file is safetensors: the weights, and as metadata the specification that rebuilds the learned
optimizer and whatever else is known of its training. No code is in it; one whose optimizer is
somebody's own names the module or file with that code, which must be at hand and which loading
runs: read such files only from people whose code you would run.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from l2ljax.base import LearnedOptimizer, MetaParams
from l2ljax.base.words import named_leaves
from l2ljax.checks import check_like, check_optimizer, check_path, short, shorten
from l2ljax.optimizers import build
from l2ljax.specification.plain import specification_of
from l2ljax.storage.seal import seal, seal_json
from l2ljax.storage.workdir import write_atomically

SEAL = "sha256"
"""The metadata entry with the checksum of everything else in the file; older files have none."""


def save_optimizer(
    path: str | Path,
    optimizer: LearnedOptimizer | Mapping[str, Any],
    meta_params: MetaParams,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Writes meta-parameters with the specification of their learned optimizer, atomically.

    The file has a checksum of the weights and of all metadata, which loading it verifies.

    Args:
        path: a `.safetensors` file; replaced if there is one.
        optimizer: the learned optimizer, which carries its own specification; or that
            specification, as `l2ljax.optimizers.build` takes it, e.g. `{"name": "lstm"}`.
        meta_params: what that optimizer's transform takes.
        metadata: further JSON values by name; `optimizer` is always that of this call.

    Raises:
        ValueError: if the optimizer has no specification, or one that does not rebuild it, if the
            meta-parameters do not fit it, and for metadata called "sha256".
        OSError: if the file cannot be written.

    Example:
        >>> import tempfile
        >>> from l2ljax.optimizers import lstm
        >>> optimizer = lstm((8,), output_scale=0.5)
        >>> path = f"{tempfile.mkdtemp()}/mine.safetensors"
        >>> save_optimizer(path, optimizer, optimizer.init(jax.random.key(0)))
        >>> load_optimizer(path)[0] is optimizer
        True
    """
    check_path("path", path)
    path = Path(path)
    if isinstance(optimizer, Mapping):
        specification = dict(optimizer)
        rebuilt = build(specification)
    else:
        specification, rebuilt = _rebuilt(optimizer)
    expected = jax.eval_shape(rebuilt.init, jax.random.key(0))
    check_like(expected, meta_params, "meta_params", f"expected those of {short(specification)}")
    tensors = {
        name: np.array(leaf, order="C")  # safetensors takes contiguous arrays only
        for name, leaf in named_leaves(meta_params).items()
    }
    if SEAL in (metadata or {}):
        raise ValueError(f"metadata must leave the name {SEAL!r} to the file's checksum.")
    try:
        rest = {name: v for name, v in (metadata or {}).items() if name != "optimizer"}
        texts = {name: json.dumps(value) for name, value in rest.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata must be JSON values by name, got {short(metadata)}.") from error
    texts["optimizer"] = _as_text(specification, rebuilt)
    texts[SEAL] = json.dumps(_seal(tensors, texts))
    write_atomically(path, safetensors.numpy.save(tensors, metadata=texts))


def _as_text(specification: Mapping[str, Any], rebuilt: LearnedOptimizer) -> str:
    """The specification as JSON: as it is given, or (of dtypes, say) as its builder tells it."""
    try:
        return json.dumps(specification)
    except (TypeError, ValueError):
        pass
    try:
        return json.dumps(dict(specification_of(rebuilt) or {"": object()}))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The specification must be plain data to be saved, got {short(specification)}."
        ) from error


def _seal(tensors: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> str:
    """One SHA-256 of named arrays and the named texts beside them."""
    return seal_json([{name: seal(tensor) for name, tensor in tensors.items()}, dict(texts)])


def _rebuilt(optimizer: LearnedOptimizer) -> tuple[dict[str, Any], LearnedOptimizer]:
    """An optimizer's specification, and what it rebuilds.

    Raises:
        ValueError: if there is none, or it is not the optimizer's.
    """
    check_optimizer("optimizer", optimizer)
    specification = specification_of(optimizer)
    if specification is None:
        why = (
            "has no specification that can"
            if optimizer.specification is None
            else "was changed after its builder made it, so its specification cannot"
        )
        raise ValueError(
            f"This learned optimizer {why} rebuild it; "
            "make it by a function at the top of a module or file that is decorated with "
            "@l2ljax.specified() and whose arguments are plain data, or give the specification "
            "itself in its place."
        )
    rebuilt = build(specification)
    if specification.builder is not getattr(rebuilt.specification, "builder", None):
        raise ValueError(
            f"The name {short(specification['name'])} finds another builder than the one that made "
            "this learned optimizer; decorate that one with @l2ljax.specified(), without a name."
        )
    return dict(specification), rebuilt


def load_optimizer(path: str | Path) -> tuple[LearnedOptimizer, MetaParams, dict[str, Any]]:
    """Reads a file of `save_optimizer`.

    Args:
        path: a `.safetensors` file.

    Returns:
        the learned optimizer, its meta-parameters, and all metadata but the checksum.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged (its checksum covers the weights and all metadata; files of
            older versions have none), was not written by l2ljax, names code of one's own that is
            not at hand, or its weights do not fit the optimizer that it specifies.

    Example:
        >>> from l2ljax.bundled import weights_path
        >>> optimizer, meta_params, card = load_optimizer(weights_path("lstm-mnist"))
        >>> card["config"]["task"]["name"]
        'mlp'
    """
    check_path("path", path)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file {path}.")
    metadata, tensors = read_sealed(path)
    if "optimizer" not in metadata:
        raise ValueError(f"{path} does not say which learned optimizer its weights belong to.")
    try:
        optimizer = build(metadata["optimizer"])
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} names an optimizer that cannot be built: {error}") from error
    expected = jax.eval_shape(optimizer.init, jax.random.key(0))
    wanted = named_leaves(expected)
    check_like(wanted, tensors, str(path), "the file does not fit the optimizer it names")
    with jax.ensure_compile_time_eval():  # they outlive a function that is traced around this
        leaves = [jnp.asarray(tensors[n]).astype(w.dtype) for n, w in wanted.items()]
    meta_params = jax.tree.unflatten(jax.tree.structure(expected), leaves)
    return optimizer, meta_params, metadata


def read_sealed(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a weights file holds, checked but not built: no code of somebody's own is run.

    Args:
        path: a `.safetensors` file.

    Returns:
        all metadata but the checksum, JSON values by name, and the weights, float arrays by their
        path in the tree of meta-parameters; the checksum matches both.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a damaged one.

    Example:
        >>> from l2ljax.bundled import weights_path
        >>> metadata, tensors = read_sealed(weights_path("lstm-mnist"))
        >>> metadata["optimizer"]["name"], sum(tensor.size for tensor in tensors.values())
        ('lstm', 5141)
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            texts = file.metadata() or {}
            metadata = {name: json.loads(text) for name, text in texts.items()}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError:
        raise
    except Exception as error:  # whatever is in the file, it is of no use
        reason = shorten(f"{error}".splitlines()[0] if f"{error}" else type(error).__name__, 160)
        raise ValueError(
            f"{path} is damaged or no safetensors file of l2ljax ({reason})."
        ) from error
    sealed = metadata.pop(SEAL, None)
    if sealed is not None and sealed != _seal(
        tensors, {name: text for name, text in texts.items() if name != SEAL}
    ):
        raise ValueError(
            f"{path} is damaged: its weights or metadata are not those that its checksum was made "
            "of; take another copy of it."
        )
    return metadata, tensors
