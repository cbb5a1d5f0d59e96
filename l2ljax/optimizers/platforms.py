"""Code that a platform has no lowering for is refused when it is compiled, in a sentence."""

from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

_refused = Primitive("l2ljax_refused")
_refused.def_abstract_eval(lambda x: x)
batching.defvectorized(_refused)


def refused(x: jax.Array) -> Any:
    """`x`, in a branch of `jax.lax.platform_dependent` that no program may run.

    Raises:
        ValueError: when it is compiled.
    """
    return _refused.bind(x)


def _sentence(platform: str) -> str:
    return (
        f"kernel='pallas' has code for NVIDIA GPUs and TPUs, and none for {platform!r}: there use "
        "kernel='plain', for which the weights are the same."
    )


def _lowering(context: Any, x: Any) -> Any:
    del x
    raise ValueError(_sentence("/".join(context.module_context.platforms)))


@_refused.def_impl
def _impl(x: jax.Array) -> Any:
    raise ValueError(_sentence(jax.default_backend()))


mlir.register_lowering(_refused, _lowering)
