"""Weights that others have published, in the arrays that their authors named.

Each kind has a converter from those arrays to one of our learned optimizers and its
meta-parameters; `KINDS` lists them. Nothing is unpickled: files are NumPy archives without objects,
safetensors, or flax's msgpack.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from l2ljax.base import LearnedOptimizer, MetaParams
from l2ljax.checks import check_path, short
from l2ljax.optimizers._celo import celo, from_celo_arrays
from l2ljax.optimizers._celo2 import GROUPS, celo2
from l2ljax.optimizers._celo_adam import celo_adam, from_celo_adam_arrays
from l2ljax.optimizers._lstm import lstm
from l2ljax.optimizers._rnnprop import rnnprop
from l2ljax.optimizers.preprocess import identity, log_and_sign
from l2ljax.optimizers.published_arrays import (
    Arrays,
    check_arrays,
    count_layers,
    flat_arrays,
    length_of,
    read_arrays,
)
from l2ljax.optimizers.scheduler import NUM_FEATURES
from l2ljax.specification import check_arguments, check_mapping


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
    return from_published(kind, read_arrays(Path(path)), **options)


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
    - "celo" and "celo-adam": Celo and Celo-Adam (Moudgil et al. 2025) as their authors save them,
      `rnn_params.linear_1.w`, ..., `ff_mod_stack.~.w0__0`, .... Arguments of `celo` and
      `celo_adam`, of which `num_steps`, the length of training, must be given.
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
    return KINDS[kind](flat_arrays(arrays), **options)


def _l2l(arrays: Arrays, **options: Any) -> tuple[LearnedOptimizer, MetaParams]:
    """DeepMind's LSTM: gates i, j, f, o of [x, h] W + b, the forget gate with + 1."""
    num_layers = count_layers(arrays, "lstm_{}.", first=1)
    sizes = [length_of(arrays, f"lstm_{i + 1}.w_gates", axis=1) // 4 for i in range(num_layers)]
    inputs = length_of(arrays, "lstm_1.w_gates", axis=0) - sizes[0]
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
    check_arrays("l2l", arrays, expected)
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
    num_layers = count_layers(arrays, "network.recurrent.{}.", first=0)
    sizes = [length_of(arrays, name.format(i, "kernel"), axis=1) // 4 for i in range(num_layers)]
    expected: dict[str, tuple[int, ...]] = {}
    for i, (size, fan_in) in enumerate(zip(sizes, [2, *sizes], strict=False)):
        expected[name.format(i, "kernel")] = (fan_in, 4 * size)
        expected[name.format(i, "recurrent_kernel")] = (size, 4 * size)
        expected[name.format(i, "bias")] = (4 * size,)
    expected |= {"network.delta.kernel": (sizes[-1], 1), "network.delta.bias": (1,)}
    check_arrays("rnnprop", arrays, expected)
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
    width = length_of(arrays, "first_layer_bias", axis=0)
    width_2 = length_of(arrays, "hidden.bias", axis=0)
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
    check_arrays("celo2", arrays, expected)
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


def _celo(arrays: Arrays, **options: Any) -> tuple[LearnedOptimizer, MetaParams]:
    """Celo's: a bank of one network, whose first layer is in one piece a group of features."""
    scheduler, given = _scheduler_shapes("celo", arrays, options)
    prefix = "ff_mod_stack.~."
    width = length_of(arrays, f"{prefix}b0", axis=1)
    numbers = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)
    network: dict[str, tuple[int, ...]] = {
        f"{prefix}w0__{i}": (1, number, width) for i, number in enumerate(numbers)
    }
    layers = {"b0": (width,), "w1": (width, width), "b1": (width,), "w2": (width, 3), "b2": (3,)}
    network |= {prefix + name: (1, *shape) for name, shape in layers.items()}
    check_arrays("celo", arrays, scheduler | network, unused=UNUSED_BY_CELO)
    given = {"width": width} | given
    check_arguments("published weights 'celo'", celo, given)
    return celo(**given), from_celo_arrays(arrays)


def _celo_adam(arrays: Arrays, **options: Any) -> tuple[LearnedOptimizer, MetaParams]:
    """Celo-Adam's: Celo's scheduler alone."""
    scheduler, given = _scheduler_shapes("celo-adam", arrays, options)
    check_arrays("celo-adam", arrays, scheduler, unused=UNUSED_BY_CELO)
    check_arguments("published weights 'celo-adam'", celo_adam, given)
    return celo_adam(**given), from_celo_adam_arrays(arrays)


UNUSED_BY_CELO = ("rnn_params.linear.", "rnn_params.rnn_to_controls.")
"""Layers inside the published files whose outputs the published rule multiplies by nothing."""


def _scheduler_shapes(
    kind: str, arrays: Arrays, options: Mapping[str, Any]
) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """Shapes of the scheduler's arrays, and the builder's arguments."""
    if "num_steps" not in options:
        raise ValueError(
            f"Published {kind} weights need num_steps, the length of training that their steps are "
            f'scheduled over: load_published("{kind}", path, num_steps=2000).'
        )
    size = length_of(arrays, "lstm_init_state.hidden", axis=1)
    shapes: dict[str, tuple[int, ...]] = {
        "lstm_init_state.hidden": (1, size),
        "lstm_init_state.cell": (1, size),
        "rnn_params.rnn.linear.w": (2 * size, 4 * size),
        "rnn_params.rnn.linear.b": (4 * size,),
        "rnn_params.step_size.w": (size, 1),
        "rnn_params.step_size.b": (1,),
    }
    for name in ("rnn_params.linear_1", "rnn_params.linear_2"):
        shapes |= {f"{name}.w": (NUM_FEATURES, size), f"{name}.b": (size,)}
    return shapes, {"hidden_size": size, **options}


KINDS: dict[str, Callable[..., tuple[LearnedOptimizer, MetaParams]]] = {
    "celo": _celo,
    "celo-adam": _celo_adam,
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


def _forget_second(gates: np.ndarray) -> np.ndarray:
    """Gates i, j, f, o along the first axis -> i, f, j, o."""
    i, j, f, o = np.split(gates, 4)
    return np.concatenate([i, f, j, o])


def _on_device(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: jnp.asarray(value, jnp.float32) for name, value in params.items()}
