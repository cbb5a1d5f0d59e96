"""The platform that a program is for, while it is traced."""

import jax
from jax.sharding import Mesh


def platform_of(mesh: Mesh | None = None) -> str:
    """That of the mesh's devices, or without one of JAX's default device: "cpu", "gpu", "tpu".

    Where the arguments of a function that is being compiled lie, nobody knows yet: one that is for
    a CPU beside a GPU is told so by a mesh or `jax.default_device`. So is one that is exported.

    Example:
        >>> with jax.default_device(jax.devices("cpu")[0]):
        ...     platform_of()
        'cpu'
    """
    if mesh is not None:
        return mesh.devices.flat[0].platform
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform
