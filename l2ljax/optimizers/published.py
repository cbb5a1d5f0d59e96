"""Weights that others have published, in the arrays that their authors named.

Each kind has a converter from those arrays to one of our learned optimizers and its
meta-parameters; `KINDS` lists them. Nothing is unpickled: files are NumPy archives without objects,
safetensors, or flax's msgpack.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from l2ljax.base import LearnedOptimizer, MetaParams
from l2ljax.checks import check_path, short
from l2ljax.optimizers._celo2 import GROUPS, celo2
from l2ljax.optimizers._lstm import lstm
from l2ljax.optimizers._rnnprop import rnnprop
from l2ljax.optimizers.preprocess import identity, log_and_sign
from l2ljax.specification import check_arguments, check_mapping

Arrays = dict[str, np.ndarray]
"""The authors' names, with dots between their parts -> float32 arrays."""


def load_published(
    kind: str, path: str | os.PathLike, **options: Any
) -> tuple[LearnedOptimizer, MetaParams]:
    """A learned optimizer and its weights, from a file that holds the authors' arrays.

    Args:
        kind: see `from_published`.
        path: a `.npz`, a `.safetensors`, or any other name for flax's msgpack (Celo publishes
            `theta.state`). No file is unpickled.
        **options: see `from_published`.

    Returns:
        `(optimizer, meta_params)`.

    Raises:
        ValueError: for an unknown kind, a file that cannot be read as what its name says, and
            arrays that are missing or misshapen, naming the first.
        FileNotFoundError: if there is no such file.

    Example:
        >>> optimizer, weights = load_published("rnnprop", "rnnprop-mean-1.npz")  # doctest: +SKIP
    """
    _check_kind(kind)
    check_path("path", path)
    return from_published(kind, _read(Path(path)), **options)


def from_published(
    kind: str, arrays: Mapping[str, Any], **options: Any
) -> tuple[LearnedOptimizer, MetaParams]:
    """A learned optimizer and its weights, from arrays under their authors' names.

    Kinds, and what their options are (each has the value that the authors ran):

    - "l2l": Andrychowicz et al. (2016) as DeepMind's code (google-deepmind/learning-to-learn) saves
      it, `lstm_1.w_gates`, ..., `linear.b`. `output_scale` (0.01, and 1 for networks without
      preprocessing), `reset_every` (`None`; the weights of MeilinaR/aml were trained with 20), and
      other arguments of `lstm`. Whether there is preprocessing is read off the arrays' shapes.
    - "rnnprop": Huang et al. (2022) (thetianshuhuang/l2o), `network.recurrent.0.kernel`, ....
      Arguments of `rnnprop`; here b1 = 0.9, b2 = 0.999, constant bias correction.
    - "celo2": Celo2 as PyLO saves it, `first_layer_weights.0`, ..., `output.bias`. Arguments of
      `celo2`.

    Args:
        kind: one of those (`KINDS` has all).
        arrays: name -> array, or nested dicts of them; "/" and "." between the parts of a name mean
            the same.
        **options: arguments of the builder, by name.

    Returns:
        `(optimizer, meta_params)`; `optimizer.transform(meta_params)` takes the authors' steps.

    Raises:
        ValueError: for an unknown kind or option, and for arrays that are missing, misshapen, not
            expected or not finite, naming the first.

    Example:
        >>> shapes = {"lstm_1.w_gates": (21, 80), "lstm_1.b_gates": (80,), "linear.w": (20, 1)}
        >>> arrays = {name: np.zeros(shape) for name, shape in shapes.items()}
        >>> optimizer, _ = from_published("l2l", arrays | {"linear.b": np.zeros(1)}, reset_every=20)
        >>> optimizer.specification["hidden_sizes"], optimizer.specification["reset_every"]
        ([20], 20)
    """
    _check_kind(kind)
    check_mapping("arrays", arrays, example='{"linear.w": ...}')
    return KINDS[kind](_flat(arrays), **options)


def _l2l(arrays: Arrays, **options: Any) -> tuple[LearnedOptimizer, MetaParams]:
    """DeepMind's LSTM: gates i, j, f, o of [x, h] W + b, the forget gate with + 1."""
    num_layers = _count(arrays, "lstm_{}.", first=1)
    sizes = [_rows(arrays, f"lstm_{i + 1}.w_gates", axis=1) // 4 for i in range(num_layers)]
    inputs = _rows(arrays, "lstm_1.w_gates", axis=0) - sizes[0]
    if inputs not in (1, 2):
        raise ValueError(
            f"lstm_1.w_gates of published l2l weights must have {sizes[0]} rows for the state and "
            f"1 or 2 for the gradient's features, got {inputs + sizes[0]}."
        )
    params: dict[str, Any] = {}
    expected: dict[str, tuple[int, ...]] = {}
    for i, (size, fan_in) in enumerate(zip(sizes, [inputs, *sizes], strict=False)):
        expected[f"lstm_{i + 1}.w_gates"] = (fan_in + size, 4 * size)
        expected[f"lstm_{i + 1}.b_gates"] = (4 * size,)
    expected |= {"linear.w": (sizes[-1], 1), "linear.b": (1,)}
    _check_arrays("l2l", arrays, expected)
    for i in range(num_layers):
        params[f"kernel_{i}"] = _forget_second(arrays[f"lstm_{i + 1}.w_gates"].T)
        params[f"bias_{i}"] = _forget_second(arrays[f"lstm_{i + 1}.b_gates"])
    params["readout"] = arrays["linear.w"][:, 0]
    params["readout_bias"] = arrays["linear.b"][0]
    given: dict[str, Any] = {
        "hidden_sizes": tuple(sizes),
        "preprocess": log_and_sign(5.0) if inputs == 2 else identity(),
        "output_scale": 0.01 if inputs == 2 else 1.0,
        "forget_bias": 1.0,
    }
    check_arguments("published weights 'l2l'", lstm, given | options)
    return lstm(**(given | options)), {"params": _on_device(params)}


def _rnnprop(arrays: Arrays, **options: Any) -> tuple[LearnedOptimizer, MetaParams]:
    """Huang et al.'s: Keras cells, gates i, f, c, o, the forget gate's offset inside the bias."""
    name = "network.recurrent.{}.{}"
    num_layers = _count(arrays, "network.recurrent.{}.", first=0)
    sizes = [_rows(arrays, name.format(i, "kernel"), axis=1) // 4 for i in range(num_layers)]
    expected: dict[str, tuple[int, ...]] = {}
    for i, (size, fan_in) in enumerate(zip(sizes, [2, *sizes], strict=False)):
        expected[name.format(i, "kernel")] = (fan_in, 4 * size)
        expected[name.format(i, "recurrent_kernel")] = (size, 4 * size)
        expected[name.format(i, "bias")] = (4 * size,)
    expected |= {"network.delta.kernel": (sizes[-1], 1), "network.delta.bias": (1,)}
    _check_arrays("rnnprop", arrays, expected)
    params: dict[str, Any] = {}
    for i in range(num_layers):
        kernels = [arrays[name.format(i, part)] for part in ("kernel", "recurrent_kernel")]
        params[f"kernel_{i}"] = np.concatenate(kernels).T
        params[f"bias_{i}"] = arrays[name.format(i, "bias")]
    params["readout"] = arrays["network.delta.kernel"][:, 0]
    params["readout_bias"] = arrays["network.delta.bias"][0]
    given: dict[str, Any] = {
        "hidden_sizes": tuple(sizes),
        "output_scale": 0.1,
        "b1": 0.9,
        "b2": 0.999,
        "bias_correction": "constant",
        "eps": 1e-10,
        "forget_bias": 0.0,
    }
    check_arguments("published weights 'rnnprop'", rnnprop, given | options)
    return rnnprop(**(given | options)), {"params": _on_device(params)}


def _celo2(arrays: Arrays, **options: Any) -> tuple[LearnedOptimizer, MetaParams]:
    """PyLO's: torch's (out, in), the first layer in one piece a group of features."""
    width = _rows(arrays, "first_layer_bias", axis=0)
    width_2 = _rows(arrays, "hidden.bias", axis=0)
    expected: dict[str, tuple[int, ...]] = {
        f"first_layer_weights.{i}": (width, number) for i, number in enumerate(GROUPS.values())
    }
    expected |= {
        "first_layer_bias": (width,),
        "hidden.weight": (width_2, width),
        "hidden.bias": (width_2,),
        "output.weight": (3, width_2),
        "output.bias": (3,),
    }
    _check_arrays("celo2", arrays, expected)
    first = [arrays[f"first_layer_weights.{i}"] for i in range(len(GROUPS))]
    params = {
        "kernel_0": np.concatenate(first, axis=1),
        "bias_0": arrays["first_layer_bias"],
        "kernel_1": arrays["hidden.weight"],
        "bias_1": arrays["hidden.bias"],
        "kernel_2": arrays["output.weight"],
        "bias_2": arrays["output.bias"],
    }
    given: dict[str, Any] = {"hidden_sizes": (width, width_2)}
    check_arguments("published weights 'celo2'", celo2, given | options)
    return celo2(**(given | options)), {"params": _on_device(params)}


KINDS: dict[str, Callable[..., tuple[LearnedOptimizer, MetaParams]]] = {
    "celo2": _celo2,
    "l2l": _l2l,
    "rnnprop": _rnnprop,
}
"""Kind -> function of the arrays (and options). A new kind adds its line here."""


def _check_kind(kind: Any) -> None:
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"kind must be one of {sorted(KINDS)}, the published weights that there is a "
            f"converter for, got {short(kind)}."
        )


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; give the path of published weights.")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return load_file(path)
        from flax.serialization import msgpack_restore

        restored = msgpack_restore(path.read_bytes())
    except Exception as error:  # each reader has its own kinds of errors for bytes it cannot read
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}: {short(str(error))}); it must be a "
            ".npz without objects, a .safetensors, or flax's msgpack. Nothing is unpickled."
        ) from error
    if not isinstance(restored, Mapping):
        raise ValueError(f"{path} holds a {type(restored).__name__}, not a dict of arrays.")
    return restored


def _flat(arrays: Mapping[str, Any], prefix: str = "") -> Arrays:
    """Nested dicts as one, names with dots, arrays as float32."""
    flat: Arrays = {}
    for key, value in arrays.items():
        name = f"{prefix}{key}".replace("/", ".")
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{name}.")
            continue
        array = np.asarray(value)
        if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
            raise ValueError(f"{name} must be an array of real numbers, got {short(value)}.")
        flat[name] = array.astype(np.float32)
    return flat


def _count(arrays: Arrays, prefix: str, first: int) -> int:
    """How many layers have an array; at least one, so that a missing first one is named later."""
    number = 0
    while any(name.startswith(prefix.format(first + number)) for name in arrays):
        number += 1
    return max(1, number)


def _rows(arrays: Arrays, name: str, axis: int) -> int:
    """A length that the others follow from."""
    if name not in arrays:
        _refuse_missing(arrays, name)
    if axis >= arrays[name].ndim or arrays[name].shape[axis] == 0:
        raise ValueError(
            f"{name} of published weights must have at least {axis + 1} axes, none of length 0, "
            f"got the shape {arrays[name].shape}."
        )
    return arrays[name].shape[axis]


def _check_arrays(kind: str, arrays: Arrays, expected: Mapping[str, Sequence[int]]) -> None:
    for name, shape in expected.items():
        if name not in arrays:
            _refuse_missing(arrays, name)
        if arrays[name].shape != tuple(shape):
            raise ValueError(
                f"{name} of published {kind} weights must have the shape {tuple(shape)}, got "
                f"{arrays[name].shape}."
            )
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} of published {kind} weights has a value that is not finite.")
    for name in arrays:
        if name not in expected:
            raise ValueError(
                f"{name} is no array of published {kind} weights; there are "
                f"{short(', '.join(expected), 200)}."
            )


def _refuse_missing(arrays: Arrays, name: str) -> None:
    found = ", ".join(sorted(arrays)[:6]) or "no array at all"
    raise ValueError(f"The published weights lack the array {name} (there are {short(found)}).")


def _forget_second(gates: np.ndarray) -> np.ndarray:
    """Gates i, j, f, o along the first axis -> i, f, j, o."""
    i, j, f, o = np.split(gates, 4)
    return np.concatenate([i, f, j, o])


def _on_device(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: jnp.asarray(value, jnp.float32) for name, value in params.items()}
