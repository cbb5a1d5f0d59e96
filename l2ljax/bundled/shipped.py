"""The optimizers that come with the package: their names, and what is in their files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from l2ljax.base import LearnedOptimizer, MetaParams
from l2ljax.base.words import hint
from l2ljax.bundled.files import load_optimizer
from l2ljax.checks import check_like, short

WEIGHTS = Path(__file__).parent / "weights"


def pretrained_names() -> list[str]:
    """Names of the bundled optimizers, such as "enduring-suite" and "lstm-mnist".

    Returns:
        the names, in alphabetical order.

    Example:
        >>> "lstm-mnist" in pretrained_names()
        True
    """
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def load_pretrained(name: str) -> tuple[LearnedOptimizer, MetaParams]:
    """A bundled learned optimizer and its meta-parameters.

    `optimizer.transform(meta_params)` is the whole transformation, with every setting that the
    optimizer was trained with. (`scale_by_lstm` beside a network typed anew is not, where a setting
    differs; `l2ljax.optimizers.network_of(optimizer)` is the network that it was trained with.)

    Args:
        name: one of `pretrained_names()`.

    Returns:
        the learned optimizer, and the float32 meta-parameters that its `transform` takes.

    Raises:
        ValueError: for a name that is not in `pretrained_names()`.

    Example:
        >>> optimizer, meta_params = load_pretrained("lstm-quadratic")
        >>> tx = optimizer.transform(meta_params)
        >>> meta_params["params"]["kernel_0"].shape  # 4 gates of 20 units; a gradient and 20 units
        (80, 21)
    """
    optimizer, meta_params, _ = load_optimizer(_bundled(name))
    return optimizer, meta_params


def pretrained_metadata(name: str) -> dict[str, Any]:
    """How a bundled optimizer was made: `optimizer`, `command`, `config`, `evaluation`, ...

    Args:
        name: one of `pretrained_names()`.

    Returns:
        JSON values by name.

    Raises:
        ValueError: for a name that is not in `pretrained_names()`.

    Example:
        >>> pretrained_metadata("lstm-mnist")["optimizer"]["hidden_sizes"]
        [20, 20]
    """
    return load_optimizer(_bundled(name))[2]


def load_meta_params(source: str | Mapping[str, Any], like: MetaParams) -> MetaParams:
    """Trained meta-parameters to start from, checked to fit.

    Args:
        source: the name of a bundled optimizer or a `.safetensors` file; for a partition a dict
            label -> such a source, one each; of a source that is a partition itself, the part of
            that label is taken.
        like: meta-parameters of the optimizer that they are for.

    Returns:
        a tree like `like`, in its dtypes.

    Raises:
        FileNotFoundError, ValueError: if there is no such optimizer or file, or its meta-parameters
            have another structure, naming the first leaf that differs.

    Example:
        >>> from l2ljax.optimizers import lstm
        >>> like = lstm().init(jax.random.key(0))
        >>> meta_params = load_meta_params("lstm-mnist", like)
        >>> jax.tree.structure(meta_params) == jax.tree.structure(like)
        True
    """
    found = _read_meta_params(source)
    check_like(like, found, f"initial={short(source)}", "it must fit the optimizer")
    return jax.tree.map(lambda new, old: new.astype(old.dtype), found, like)


def weights_path(name: str | Path) -> Path:
    """The file of a bundled optimizer, or `name` itself where it ends in `.safetensors`.

    Args:
        name: one of `pretrained_names()`, or a path.

    Returns:
        the path; whether a file of one's own is there is not looked at.

    Raises:
        ValueError: for a name that is neither.

    Example:
        >>> weights_path("lstm-mnist").name
        'lstm-mnist.safetensors'
    """
    return Path(name) if str(name).endswith(".safetensors") else _bundled(str(name))


def _read_meta_params(source: Any, label: str | None = None) -> MetaParams:
    if isinstance(source, Mapping):
        return {label: _read_meta_params(one, label) for label, one in source.items()}
    if not isinstance(source, str):
        raise ValueError(
            f"initial must name a bundled optimizer or a .safetensors file, got {short(source)}."
        )
    _, meta_params, metadata = load_optimizer(weights_path(source))
    in_parts = metadata["optimizer"]["name"] == "partition"
    return meta_params[label] if in_parts and label in meta_params else meta_params


def _bundled(name: str) -> Path:
    if name not in pretrained_names():
        raise ValueError(
            f"There is no bundled optimizer {short(name)}; there are "
            f"{', '.join(pretrained_names())}{hint(name, pretrained_names())}."
        )
    return WEIGHTS / f"{name}.safetensors"
